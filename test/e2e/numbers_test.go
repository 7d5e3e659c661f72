package e2e

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/masterd/masterd/pkg/api"
)

// Each worker finds its own number, and its generation's, in its arguments and variables: two
// that run at once cannot share a PID file.
func TestNumbersInCommandAndEnv(t *testing.T) {
	t.Parallel()
	s := newService(t)
	jobs := filepath.Join(s.Dir, "{plain}-{worker}-{generation}.jobs")
	s.Config.Set("worker.processes", 2).Set("worker.command", []string{programs.Demo, "-job-file", jobs}).
		Set("worker.env", map[string]any{"OWN": "{generation}.{worker}", "PLAIN": "{a} {worker"})
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	told := func(generation int) {
		t.Helper()
		wait(t, s, "two workers", manned(2))
		for _, w := range team(status(t, s)) {
			args, err1 := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", w.PID))
			env, err2 := os.ReadFile(fmt.Sprintf("/proc/%d/environ", w.PID))
			if err := errors.Join(err1, err2); err != nil {
				t.Fatal(err)
			}
			if want := fmt.Sprintf("/{plain}-%d-%d.jobs\x00", w.ID, generation); !strings.Contains(string(args), want) {
				t.Errorf("worker %d: %q is not in %q", w.ID, want, args)
			}
			for _, want := range []string{fmt.Sprintf("\x00OWN=%d.%d\x00", generation, w.ID), "\x00PLAIN={a} {worker\x00"} {
				if !strings.Contains("\x00"+string(env), want) {
					t.Errorf("worker %d: %q is not in %q", w.ID, want, env)
				}
			}
		}
	}
	told(1)
	pid := team(status(t, s))[0].PID
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	wait(t, s, "a worker in its place", func(st api.Status) bool {
		return manned(2)(st) && !slices.Contains(pids(st), pid)
	})
	told(1)
	baked(t, s)
	next(t, s, 2, "serving")
	told(2)
}
