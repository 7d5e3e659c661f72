package worker

import (
	"context"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/masterd/masterd/pkg/worker/internal/workertest"
)

// childEnv makes the test binary a worker of its own: see alone_test.go.
const childEnv = "WORKER_TEST_CHILD"

func TestMain(m *testing.M) {
	if how := os.Getenv(childEnv); how != "" {
		os.Exit(child(how))
	}
	os.Exit(m.Run())
}

// workerWith makes a worker that sees this environment instead of the process's.
func workerWith(t *testing.T, opts Options, env map[string]string) *Worker {
	t.Helper()
	opts.IgnoreSignals = true
	if opts.Log == nil {
		opts.Log = workertest.QuietLog(t)
	}
	return newWorker(opts,
		func(k string) (string, bool) { v, ok := env[k]; return v, ok },
		func(k string) error { delete(env, k); return nil })
}

// running is a worker whose Run is under way.
type running struct {
	*Worker
	t    *testing.T
	stop context.CancelFunc
	done chan struct{}
	err  error
}

// runs counts the workers that run: a test may have several.
var runs atomic.Int64

func run(t *testing.T, w *Worker) *running {
	runs.Add(1)
	ctx, stop := context.WithCancel(context.Background())
	r := &running{Worker: w, t: t, stop: stop, done: make(chan struct{})}
	go func() {
		r.err = w.Run(ctx)
		close(r.done)
	}()
	t.Cleanup(func() {
		stop()
		w.core.Traffic.CloseAll()
		r.wait()
		if runs.Add(-1) == 0 {
			noGoroutines(t)
		}
	})
	return r
}

// wait returns Run's error.
func (r *running) wait() error {
	r.t.Helper()
	select {
	case <-r.done:
	case <-time.After(workertest.Patience):
		r.t.Fatalf("Run has not returned after %v; state %s, %+v\n%s", workertest.Patience, r.State(), r.Stats(), workertest.Stacks())
	}
	return r.err
}

// noGoroutines fails when one of this package's or of a server is still there.
func noGoroutines(t *testing.T) {
	t.Helper()
	workertest.Eventually(t, "no goroutine of the worker's is left", func() bool {
		s := workertest.Stacks()
		for _, of := range []string{"control.(*", "migrate.(*", "net/http.(*Server)", "net/http.(*conn).serve"} {
			if strings.Contains(s, of) {
				return false
			}
		}
		return true
	})
}

// leaves waits until the worker has heard that it shall drain.
func (r *running) leaves() {
	r.t.Helper()
	workertest.Eventually(r.t, "the worker drains", func() bool { return r.State() == StateDraining })
}
