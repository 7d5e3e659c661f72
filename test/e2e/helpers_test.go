package e2e

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/test/service"
)

// loaded waits until the active worker holds connections of the load, by its own count.
func loaded(t *testing.T, s *service.Service) (pid int) {
	t.Helper()
	if err := s.Wait(t.Context(), 10*time.Second, "the active worker to hold the load's connections", func(st api.Status) bool {
		for _, g := range st.Generations {
			if st.Active != nil && g.ID == st.Active.Generation && len(g.Workers) == 1 && g.Workers[0].Open >= 8 {
				pid = g.Workers[0].PID
				return true
			}
		}
		return false
	}); err != nil {
		t.Fatal(err)
	}
	return pid
}

// sockets counts the sockets that a process has open: its connections, and a
// few more that are not (its slot, its control connection).
func sockets(t *testing.T, pid int) (n int) {
	t.Helper()
	fds, err := filepath.Glob(filepath.Join("/proc", strconv.Itoa(pid), "fd", "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		if to, err := os.Readlink(fd); err == nil && strings.HasPrefix(to, "socket:") {
			n++
		}
	}
	return n
}

func median(ds []time.Duration) time.Duration {
	if len(ds) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(ds))
	return s[len(s)/2]
}

// clone copies a configuration deeply enough to be changed.
func clone(c service.Config) service.Config {
	out := service.Config{}
	for k, v := range c {
		if m, ok := v.(map[string]any); ok {
			v = map[string]any(clone(m))
		}
		out[k] = v
	}
	return out
}
