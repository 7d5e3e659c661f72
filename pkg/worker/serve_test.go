package worker

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/masterd/masterd/pkg/worker/internal/workertest"
)

// aloneWith starts a worker that serves lines on an address of its own.
func aloneWith(t *testing.T, opts Options, make func() GracefulServer) (*running, string) {
	t.Helper()
	addr := freeAddress(t)
	w := workerWith(t, opts, nil)
	w.Serve("lines", make, Address(addr))
	r := run(t, w)
	workertest.Eventually(t, "it serves", func() bool { return w.State() == StateActive })
	return r, addr
}

func TestServeAlone(t *testing.T) {
	m := &makeLines{}
	w, addr := aloneWith(t, Options{}, m.make)
	a, b := call(t, addr), call(t, addr)
	a.wants(t, 1)
	b.wants(t, 1)
	if n := w.Stats(); n.Open != 2 || n.Accepted != 2 || n.InFlight != 0 || n.Requests != 0 {
		t.Errorf("counted as %+v", n)
	}
	w.stop()
	a.wantsBye(t)
	a.wants(t, 1) // what is open is finished
	b.wantsBye(t)
	a.c.Close()
	b.c.Close()
	if err := w.wait(); err != nil {
		t.Fatal(err)
	}
	if n := w.Stats(); n.Open != 0 || n.Cut != 0 {
		t.Errorf("left with %+v", n)
	}
	if n := m.count(); n != 2 {
		t.Errorf("%d servers were made, wanted one for clients and one for checks", n)
	}
	noShifts(t)
}

// Both kinds of listener in one worker.
func TestServeBesideHandle(t *testing.T) {
	web, addr := freeAddress(t), freeAddress(t)
	w := workerWith(t, Options{}, nil)
	w.Handle("http", workertest.Pong, Address(web))
	w.Serve("lines", (&makeLines{}).make, Address(addr))
	r := run(t, w)
	workertest.Eventually(t, "it serves", func() bool { return w.State() == StateActive })
	a := call(t, addr)
	a.wants(t, 1)
	h := workertest.Dial(t, web)
	h.Want(t, "/", "pong", false)
	r.stop()
	a.wantsBye(t)
	a.c.Close()
	h.Want(t, "/", "pong", true)
	if err := r.wait(); err != nil {
		t.Fatal(err)
	}
	noShifts(t)
}

// At the deadline servers are stopped; connections that they had are counted.
func TestServeDeadline(t *testing.T) {
	m := &makeLines{}
	w, addr := aloneWith(t, Options{DrainTimeout: 20 * time.Millisecond}, m.make)
	a := call(t, addr)
	a.wants(t, 1)
	w.stop()
	a.wantsBye(t)
	a.wantsEnd(t)
	if err := w.wait(); err != nil {
		t.Fatal(err)
	}
	if n := w.Stats(); n.Cut != 1 || n.Open != 0 {
		t.Errorf("left with %+v", n)
	}
	noShifts(t)
}

// deaf is a server that does something badly.
type deaf struct {
	*lines
	serve        func(net.Listener) error
	gracefulStop func()
	stop         func()
}

func (d *deaf) Serve(ln net.Listener) error {
	if d.serve != nil {
		return d.serve(ln)
	}
	return d.lines.Serve(ln)
}

func (d *deaf) GracefulStop() {
	if d.gracefulStop != nil {
		d.gracefulStop()
		return
	}
	d.lines.GracefulStop()
}

func (d *deaf) Stop() {
	if d.stop != nil {
		d.stop()
	}
	d.lines.Stop()
}

// A GracefulStop that never returns costs the deadline, and one that Stop does
// not end either is left behind.
func TestServeGracefulStopHangs(t *testing.T) {
	for _, hears := range []bool{true, false} {
		end := make(chan struct{})
		over := sync.OnceFunc(func() { close(end) })
		var stops atomic.Int32
		w, addr := aloneWith(t, Options{DrainTimeout: 20 * time.Millisecond}, func() GracefulServer {
			return &deaf{lines: newLines(1), gracefulStop: func() { <-end }, stop: func() {
				stops.Add(1)
				if hears {
					over()
				}
			}}
		})
		a := call(t, addr)
		a.wants(t, 1)
		w.stop()
		w.leaves()
		a.c.Close()
		if err := w.wait(); err != nil {
			t.Fatal(err)
		}
		if stops.Load() != 2 { // that of the checks, too
			t.Errorf("%d servers were stopped", stops.Load())
		}
		over()
		noShifts(t)
	}
}

// A server that cannot serve ends a worker that has not begun, with the reason.
func TestServeFails(t *testing.T) {
	for name, c := range map[string]struct {
		serve func(net.Listener) error
		want  string
	}{
		"error": {func(net.Listener) error { return errors.New("no codec") }, `listener "lines": its server ended by itself: no codec`},
		"nil":   {func(net.Listener) error { return nil }, "without having been stopped"},
	} {
		t.Run(name, func(t *testing.T) {
			w := workerWith(t, Options{}, nil)
			w.Serve("lines", func() GracefulServer { return &deaf{lines: newLines(1), serve: c.serve} }, Address("127.0.0.1:0"))
			r := run(t, w)
			if err := r.wait(); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("Run says %v", err)
			}
			noShifts(t)
		})
	}
}

func TestServeMistakes(t *testing.T) {
	lines := (&makeLines{}).make
	for name, c := range map[string]struct {
		set  func(*Worker)
		want string
	}{
		"no name":    {func(w *Worker) { w.Serve("", lines) }, "name"},
		"nil":        {func(w *Worker) { w.Serve("x", nil) }, "nil"},
		"twice":      {func(w *Worker) { w.Serve("x", lines); w.Serve("x", lines) }, "already"},
		"both":       {func(w *Worker) { w.Serve("x", lines); w.Handle("x", workertest.Pong) }, "twice"},
		"TLS":        {func(w *Worker) { w.Serve("x", lines, TLS("a", "b")) }, "worker.TLS"},
		"H2C":        {func(w *Worker) { w.Serve("x", lines, H2C()) }, "worker.H2C"},
		"Server":     {func(w *Worker) { w.Serve("x", lines, Server(func(*http.Server) {})) }, "worker.Server"},
		"no address": {func(w *Worker) { w.Serve("x", lines) }, "worker.Address"},
		"panics":     {func(w *Worker) { w.Serve("x", func() GracefulServer { panic("no key") }) }, "no key"},
		"makes nil":  {func(w *Worker) { w.Serve("x", func() GracefulServer { return nil }) }, "returned nil"},
	} {
		t.Run(name, func(t *testing.T) {
			w := workerWith(t, Options{}, nil)
			c.set(w)
			if err := w.Run(context.Background()); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("Run says %v; wanted %q in it", err, c.want)
			}
			noGoroutines(t)
			noShifts(t)
		})
	}
}

// What make uses may be made by BeforeReady.
func TestServeAfterBeforeReady(t *testing.T) {
	ready := false
	m := &makeLines{}
	addr := freeAddress(t)
	w := workerWith(t, Options{}, nil)
	w.BeforeReady(func(context.Context) error { ready = true; return nil })
	w.Serve("lines", func() GracefulServer {
		if !ready {
			t.Error("made before BeforeReady has returned")
		}
		return m.make()
	}, Address(addr))
	r := run(t, w)
	workertest.Eventually(t, "it serves", func() bool { return w.State() == StateActive })
	r.stop()
	if err := r.wait(); err != nil {
		t.Fatal(err)
	}
	noShifts(t)
}
