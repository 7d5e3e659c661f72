package e2e

import (
	"encoding/json"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/pkg/ipc"
	"github.com/masterd/masterd/pkg/master/atomicfile"
	"github.com/masterd/masterd/test/service"
)

// counted are the requests to /upload that the service has counted, as a next master would know.
func counted(s *service.Service) (n uint64, err error) {
	text, err := atomicfile.ReadReserved(filepath.Join(s.Dir, "run", "counters.json"), 16<<20)
	var f struct {
		Service struct {
			Routes []ipc.RouteCounts `json:"routes"`
		} `json:"service"`
	}
	if err == nil {
		err = json.Unmarshal(text, &f)
	}
	for _, r := range f.Service.Routes {
		if strings.HasSuffix(r.Route, "/upload") {
			for _, of := range r.Status {
				n += of
			}
		}
	}
	return n, err
}

// Each request that was answered is counted once, whoever has answered it, and no sum falls.
func TestCountersAreTheServices(t *testing.T) {
	besideOthers(t)
	s := started(t, func(c service.Config) {
		c.Set("worker.processes", 2).Set("rollout.bake", "500ms").Set("drain.timeout", "20s")
	})
	baked(t, s)

	watched, stop := make(chan struct{}), make(chan struct{})
	end := sync.OnceFunc(func() { close(stop); <-watched })
	t.Cleanup(end)
	var most uint64
	go func() {
		defer close(watched)
		for {
			n, err := counted(s)
			switch {
			case err == nil && n < most:
				t.Errorf("%d requests were counted, and then %d", most, n)
			case err == nil:
				most = n
			}
			select {
			case <-stop:
				return
			case <-time.After(5 * time.Millisecond):
			}
		}
	}()
	cli := func(args ...string) {
		t.Helper()
		if out, code := s.CLI(t.Context(), args...); code != 0 {
			t.Fatalf("%v ended with %d: %s", args, code, out)
		}
	}
	var want uint64
	for _, x := range []struct {
		what string
		do   func()
	}{
		{"a reload", func() { cli("reload", "--label", "v2", "--until", "baked") }},
		{"a rollback", func() {
			s.Config.Set("rollout.bake", "1m")
			reload(t, s, api.ReloadRequest{Label: "v3"})
			cli("rollback")
		}},
		{"the death of the master", func() {
			s.Kill()
			if err := s.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
		}},
		{"an upgrade", func() { cli("upgrade") }},
		{"that of a worker", nil}, // with nothing that it has not told
		{"what comes after it", func() { time.Sleep(100 * time.Millisecond) }},
	} {
		if x.do == nil {
			pid, err := s.Worker(t.Context())
			if err == nil {
				err = syscall.Kill(pid, syscall.SIGKILL)
			}
			if err == nil {
				err = s.Wait(t.Context(), patience, "another worker", func(st api.Status) bool {
					pids := slices.Collect(maps.Values(pidsByWorker(st)))
					return st.State == "serving" && len(pids) == 2 && !slices.Contains(pids, pid)
				})
			}
			if err != nil {
				t.Fatal(err)
			}
			continue
		}
		res := underLoad(t, s, 200, x.do)
		want += uint64(res.Requests)
		var n uint64
		for limit := time.Now().Add(patience); ; time.Sleep(poll) {
			if n, _ = counted(s); n == want {
				break
			}
			if time.Now().After(limit) {
				t.Fatalf("after %s %d of %d requests are counted", x.what, n, want)
			}
		}
	}
	end()
	cli("stop")
	if _, err := counted(s); err == nil {
		t.Error("the counters are there when the service has stopped")
	}
}
