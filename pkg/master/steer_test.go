package master

import (
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/pkg/master/answer"
	"github.com/masterd/masterd/pkg/master/config"
)

func (w *world) wasPassed() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.passed)
}

// Connections that wait are not pressed on a worker that has too much to read:
// that would cost it its control connection, and them their answer.
func TestOrphansWaitForRoom(t *testing.T) {
	run(t, testConfig(), func(w *world, m *Master) {
		until(t, "v1 serves", serves(w, "v1"))
		w.is("v1", behaviour{crowded: true})
		const n = 500
		for range n {
			m.traffic.TakeUnaccepted(config.Listener{Name: "http"}, -1)
		}
		time.Sleep(time.Second)
		if got := w.wasPassed(); got != 0 {
			t.Errorf("%d were passed to a worker without room", got)
		}
		w.is("v1", behaviour{})
		begun := time.Now()
		until(t, "all are passed", func() bool { return w.wasPassed() == n })
		if took := time.Since(begun); took > 100*time.Millisecond {
			t.Errorf("it took %s", took)
		}
	})
}

// A first program that does not start leaves nobody waiting for ever.
func TestNobodyHasEverServed(t *testing.T) {
	cfg := testConfig()
	cfg.Unavailable.Answer = answer.ModeReset
	client := func() int {
		fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = syscall.Close(fds[0]) })
		return fds[1]
	}
	run(t, cfg, func(w *world, m *Master) {
		w.is("v1", behaviour{noSpawn: true})
		m.loop.Call(m.traffic.Open)
		time.Sleep(cfg.Unavailable.After / 2)
		waiting := func() (n int) { m.loop.Call(func() { n = m.traffic.Waiting() }); return n }
		m.traffic.TakeUnaccepted(config.Listener{Name: "http"}, client())
		if waiting() != 1 {
			t.Error("answered before its time")
		}
		time.Sleep(cfg.Unavailable.After)
		m.traffic.TakeUnaccepted(config.Listener{Name: "http"}, client())
		if n := waiting(); n != 0 {
			t.Errorf("%d still wait", n)
		}
	})
}

// What a rollout that did not come about had opened is closed again.
func TestListenersOfAPreparationThatFailed(t *testing.T) {
	cfg := testConfig()
	run(t, cfg, func(w *world, m *Master) {
		until(t, "v1 serves", serves(w, "v1"))
		next := *cfg
		next.Listeners = append(next.Listeners[:1:1],
			config.Listener{Name: "extra", Network: "tcp", Address: "tcp://127.0.0.1:81"})
		next.Rollout.Hooks.Before = [][]string{{"/nonexistent/hook"}}
		m.generations.Reread = func() (*config.Config, error) { c := next; return &c, nil }
		if _, out := reload(t, m, api.ReloadRequest{}); out.Result != api.ResultFailed || out.Stage != "prepare" {
			t.Fatalf("outcome %+v", out)
		}
		time.Sleep(time.Second)
		w.mu.Lock()
		defer w.mu.Unlock()
		last := w.retained[len(w.retained)-1]
		if slices.ContainsFunc(last, func(l config.Listener) bool { return l.Name == "extra" }) {
			t.Errorf("retained %v", last)
		}
		if n := len(w.settled); n == 0 || len(w.settled[n-1]) != 1 {
			t.Errorf("settled %v", w.settled)
		}
	})
}
