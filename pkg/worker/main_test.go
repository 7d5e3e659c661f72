package worker

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// patience bounds every wait of a test; none is ever waited out when all is well.
const patience = 20 * time.Second

// childEnv makes the test binary a worker of its own: see alone_test.go.
const childEnv = "WORKER_TEST_CHILD"

func TestMain(m *testing.M) {
	if how := os.Getenv(childEnv); how != "" {
		os.Exit(child(how))
	}
	os.Exit(m.Run())
}

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

func quietLog(t *testing.T) *slog.Logger {
	out := io.Discard
	if testing.Verbose() {
		out = t.Output()
	}
	return slog.New(slog.NewTextHandler(out, nil))
}

// workerWith makes a worker that sees this environment instead of the process's.
func workerWith(t *testing.T, opts Options, env map[string]string) *Worker {
	t.Helper()
	opts.IgnoreSignals = true
	if opts.Log == nil {
		opts.Log = quietLog(t)
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
		w.traffic.cutOff()
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
	case <-time.After(patience):
		r.t.Fatalf("Run has not returned after %v; state %s, %+v\n%s", patience, r.State(), r.Stats(), stacks())
	}
	return r.err
}

// eventually waits for a fact that nothing announces.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	end := time.Now().Add(patience)
	for !is() {
		if time.Now().After(end) {
			t.Fatalf("not so after %v: %s\n%s", patience, what, stacks())
		}
		time.Sleep(time.Millisecond)
	}
}

func stacks() string {
	buf := make([]byte, 1<<20)
	return string(buf[:runtime.Stack(buf, true)])
}

// noGoroutines fails when one of this package's or of a server is still there.
func noGoroutines(t *testing.T) {
	t.Helper()
	eventually(t, "no goroutine of the worker's is left", func() bool {
		s := stacks()
		for _, of := range []string{"worker.(*life)", "worker.(*route)", "worker.(*taker)", "worker.(*mover)", "worker.(*handover)", "worker.(*link)", "worker.(*session)", "worker.(*background)", "net/http.(*Server)", "net/http.(*conn).serve"} {
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
	eventually(r.t, "the worker drains", func() bool { return r.State() == StateDraining })
}

var pong = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	io.Copy(io.Discard, r.Body)
	io.WriteString(w, "pong")
})
