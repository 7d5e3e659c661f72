// Package e2e runs real processes on real sockets under a client that never
// retries.
package e2e

import (
	"context"
	"flag"
	"fmt"
	"os"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/test/load"
	"github.com/masterd/masterd/test/service"
	"github.com/masterd/masterd/test/service/servicetest"
)

// full runs what the project promises in full; without it everything is tried
// a few times, so that `make test` stays short.
var full = flag.Bool("e2e.full", false, "run everything in full")

// beside is how many parallel tests run at least beside each other.
const beside = 12

var (
	programs    service.Programs
	programsDir string // of those that were not built before
)

func TestMain(m *testing.M) {
	flag.Parse()
	// Most of them wait for most of their time: more than there are cores may
	// run beside each other.
	if runtime.GOMAXPROCS(0) < beside && flag.Lookup("test.parallel").Value.String() == fmt.Sprint(runtime.GOMAXPROCS(0)) {
		_ = flag.Set("test.parallel", fmt.Sprint(beside))
	}
	os.Exit(main(m))
}

func main(m *testing.M) int {
	if runtime.GOOS != "linux" {
		fmt.Println("masterd runs on Linux: skipped")
		return 0
	}
	// Below /var/tmp or /tmp: another user must be able to enter it.
	dir, err := os.MkdirTemp("", "masterd-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	programsDir = dir
	if programs, err = service.Build(context.Background(), dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// besideOthers has a test that counts, and in full takes minutes, run beside others unless
// it is run in full: what is published is measured alone.
func besideOthers(t *testing.T) {
	t.Helper()
	if !*full {
		t.Parallel()
	}
}

// times is how often a thing is done: n in full, few otherwise.
func times(n, few int) int {
	if *full {
		return n
	}
	return few
}

// newService lays out a service that is stopped when the test ends.
func newService(t *testing.T) *service.Service {
	t.Helper()
	return servicetest.New(t, programs)
}

func started(t *testing.T, change func(c service.Config)) *service.Service {
	t.Helper()
	s := newService(t)
	if change != nil {
		change(s.Config)
	}
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s
}

// baked waits until the active generation has proved itself.
func baked(t *testing.T, s *service.Service) {
	t.Helper()
	if err := s.Wait(t.Context(), 30*time.Second, "the end of the bake", func(st api.Status) bool {
		return st.Active != nil && st.Active.Baked && st.Rollout == nil
	}); err != nil {
		t.Fatal(err)
	}
}

// reload rewrites the configuration and asks for a reload of it.
func reload(t *testing.T, s *service.Service, r api.ReloadRequest) api.Outcome {
	t.Helper()
	if err := s.Write(); err != nil {
		t.Fatal(err)
	}
	out, err := s.API.Reload(t.Context(), r, nil)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// underLoad runs story while a strict client runs: half on kept, half on new
// connections, POST with a body. Not one request may fail.
func underLoad(t *testing.T, s *service.Service, rate int, story func()) *load.Result {
	t.Helper()
	r := start(t, s, rate)
	story()
	res := r()
	failed := res.Failed()
	if s.Config.Kind() != "sdk" {
		failed = res.FailedFresh
		closedInTime(t, res)
	}
	if failed > 0 {
		t.Errorf("%d of %d requests failed:\n%s", failed, res.Requests, res)
	}
	if res.Requests == 0 {
		t.Error("no request was made")
	}
	return res
}

// start starts the load; what it returns ends it.
func start(t *testing.T, s *service.Service, rate int) func() *load.Result {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	l := load.Start(ctx, load.Plan{Addr: s.Addr, Rate: rate, Kept: 16, Fresh: 16, Path: "/upload", Body: 512})
	stop := sync.OnceValue(func() *load.Result {
		cancel()
		return l.Wait()
	})
	t.Cleanup(func() { stop() })
	return stop
}

// label names the n-th version.
func label(n int) string { return fmt.Sprintf("v%d", n) }
