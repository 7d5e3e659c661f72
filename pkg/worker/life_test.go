//go:build linux

package worker

import (
	"context"
	"errors"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/masterd/masterd/pkg/ipc"
	"github.com/masterd/masterd/pkg/worker/internal/workertest"
)

// The whole story, once: checked, active, parked, active again, drained.
func TestLife(t *testing.T) {
	s := newSlot(t, "http")
	w, k := managed(t, func(w *Worker) { w.Handle("http", workertest.Pong) })
	if got, want := w.Info(), (Info{Managed: true, Worker: 7, Generation: 3, Service: "shop", Label: "v1"}); got != want {
		t.Fatalf("Info is %+v", got)
	}

	workertest.On(k.pass("http", ipc.PurposeProbe)).Want(t, "/healthz", "pong", false)
	k.activate(s)
	if w.State() != StateActive {
		t.Fatalf("accepting was said in state %s", w.State())
	}
	c := workertest.Dial(t, s.addr)
	c.Want(t, "/", "pong", false)
	c.Want(t, "/", "pong", false)

	k.park()
	c.Want(t, "/", "pong", true)
	workertest.Dial(t, s.addr).Want(t, "/", "pong", true) // accepting goes on while parked
	k.activate()
	c = workertest.Dial(t, s.addr)
	c.Want(t, "/", "pong", false)

	k.recv(ipc.TypeBeat)
	k.drain(0)
	w.leaves()
	c.Want(t, "/", "pong", true)
	stats := k.drained()
	if err := w.wait(); err != nil {
		t.Fatal(err)
	}
	if stats.Open != 0 || stats.InFlight != 0 || stats.Accepted != 3 || stats.Requests != 6 || stats.Cut != 0 {
		t.Errorf("drained with %+v", stats)
	}
	if !s.nonblocking(t) {
		t.Error("the slot is blocking now, for everybody who shares it")
	}
}

// Background work runs while active, starts again when active again, and never
// runs twice, also if it ends slowly.
func TestOnActive(t *testing.T) {
	s := newSlot(t, "http")
	var now, most, runs atomic.Int32
	slow := make(chan struct{}, 1)
	w, k := managed(t, func(w *Worker) {
		w.Handle("http", workertest.Pong)
		w.OnActive(func(ctx context.Context) {
			runs.Add(1)
			if n := now.Add(1); n > most.Load() {
				most.Store(n)
			}
			defer now.Add(-1)
			<-ctx.Done()
			select {
			case <-slow: // as slow as the test wants
				<-slow
			default:
			}
		})
	})
	if runs.Load() != 0 {
		t.Error("it ran before the worker was active")
	}
	k.activate(s)
	k.activate() // again, without park: nothing starts twice
	for range 20 {
		workertest.Eventually(t, "it runs", func() bool { return now.Load() == 1 })
		k.park()
		if now.Load() != 0 {
			t.Fatal("parked was said while it ran")
		}
		k.activate()
	}
	// Active, but the version before still works: it begins when it is told.
	k.park()
	k.ask(ipc.Message{Type: ipc.TypeActivate, Activate: &ipc.Activate{Wait: true}}, ipc.TypeAccepting)
	if now.Load() != 0 || w.State() != StateActive {
		t.Fatalf("%d run in state %s", now.Load(), w.State())
	}
	k.activate()
	// Active again before the last run has ended: parked and accepting are
	// said in order, and the next run waits.
	workertest.Eventually(t, "it runs", func() bool { return now.Load() == 1 })
	slow <- struct{}{}
	before := runs.Load()
	parked := k.send(ipc.Message{Type: ipc.TypePark})
	active := k.send(ipc.Message{Type: ipc.TypeActivate})
	if m := k.recv(ipc.TypeParked); m.Seq != parked {
		t.Fatalf("parked answers %d", m.Seq)
	}
	if m := k.recv(ipc.TypeAccepting); m.Seq != active {
		t.Fatalf("accepting answers %d", m.Seq)
	}
	if now.Load() != 1 || runs.Load() != before {
		t.Fatalf("%d run now, %d more have begun", now.Load(), runs.Load()-before)
	}
	slow <- struct{}{}
	workertest.Eventually(t, "it runs again", func() bool { return runs.Load() == before+1 && now.Load() == 1 })
	k.drain(0)
	k.drained()
	w.wait()
	if now.Load() != 0 || most.Load() != 1 {
		t.Errorf("%d run after the drain, at most %d ran at one time", now.Load(), most.Load())
	}
}

// While paused nothing is taken from the socket; a sibling gets all of it.
func TestPauseResume(t *testing.T) {
	s := newSlot(t, "http")
	w, k := managed(t, func(w *Worker) { w.Handle("http", workertest.Pong) })
	k.activate(s)
	for range 5 {
		workertest.Dial(t, s.addr).Want(t, "/", "pong", false)
		k.ask(ipc.Message{Type: ipc.TypePause}, ipc.TypePaused)
		taken := w.Stats().Accepted
		c := workertest.Dial(t, s.addr)
		s.ln.SetDeadline(time.Now().Add(workertest.Patience))
		sibling, err := s.ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		sibling.Close()
		c.WantEnd(t)
		if n := w.Stats().Accepted; n != taken {
			t.Fatalf("%d connections were taken while paused", n-taken)
		}
		queued := workertest.Dial(t, s.addr)
		k.ask(ipc.Message{Type: ipc.TypeResume}, ipc.TypeAccepting)
		queued.Want(t, "/", "pong", false)
	}
	// A drain while paused leaves the queue to whoever accepts.
	k.ask(ipc.Message{Type: ipc.TypePause}, ipc.TypePaused)
	c := workertest.Dial(t, s.addr)
	k.drain(20 * time.Millisecond) // the kept connections above are cut
	k.drained()
	w.wait()
	if n := s.queued(t); n != 1 {
		t.Errorf("%d wait in the queue that was not ours", n)
	}
	c.Conn.Close()
}

func TestBeforeReady(t *testing.T) {
	m := newMaster(t)
	w := workerWith(t, Options{}, m.env())
	w.Handle("http", workertest.Pong)
	w.BeforeReady(func(context.Context) error { return nil })
	w.BeforeReady(func(context.Context) error { return errors.New("no database") })
	r := run(t, w)
	if err := r.wait(); err == nil || !strings.Contains(err.Error(), "no database") {
		t.Fatalf("Run says %v", err)
	}

	// A drain ends one that waits, and one that hangs is not waited for long.
	for _, hangs := range []bool{false, true} {
		m := newMaster(t)
		end := make(chan struct{})
		w := workerWith(t, Options{}, m.env())
		w.Handle("http", workertest.Pong)
		w.BeforeReady(func(ctx context.Context) error {
			if hangs {
				<-end
			} else {
				<-ctx.Done()
			}
			return ctx.Err()
		})
		r := run(t, w)
		k, _ := m.accept()
		k.welcome("http")
		k.recv(ipc.TypeBeat) // beats come before ready
		k.drain(0)
		k.drained()
		if err := r.wait(); err != nil {
			t.Errorf("hangs %v: %v", hangs, err)
		}
		close(end)
	}
}

// What cannot be followed is refused with a reason, costs no descriptor, and
// changes nothing.
func TestRefused(t *testing.T) {
	s, other := newSlot(t, "http"), newSlot(t, "debug")
	w, k := managed(t, func(w *Worker) { w.Handle("http", workertest.Pong) })
	before := descriptors(t)
	activate := func(name string, fd int) ipc.Message {
		return k.ask(ipc.Message{Type: ipc.TypeActivate, Activate: &ipc.Activate{Listeners: []string{name}}}, ipc.TypeRefused, fd)
	}
	if m := activate("debug", other.fd); !strings.Contains(m.Text, `"debug"`) {
		t.Errorf("unknown listener: %q", m.Text)
	}
	pair := k.pass("http", ipc.PurposeProbe) // any socket that does not listen
	raw, _ := pair.(*net.UnixConn).SyscallConn()
	raw.Control(func(fd uintptr) {
		if m := activate("http", int(fd)); !strings.Contains(m.Text, "no listening socket") {
			t.Errorf("not a listener: %q", m.Text)
		}
	})
	if m := k.ask(ipc.Message{Type: "dance"}, ipc.TypeRefused); !strings.Contains(m.Text, `"dance"`) {
		t.Errorf("unknown message: %q", m.Text)
	}
	both := k.ask(ipc.Message{Type: ipc.TypeActivate, Activate: &ipc.Activate{Listeners: []string{"http", "debug"}}}, ipc.TypeRefused, s.fd, other.fd)
	if !strings.Contains(both.Text, `"debug"`) {
		t.Errorf("one of two unknown: %q", both.Text)
	}
	if w.State() != StateReady {
		t.Errorf("state %s", w.State())
	}
	pair.Close()
	workertest.Eventually(t, "no descriptor is left behind", func() bool { return descriptors(t) == before })
	k.activate(s)
	workertest.Dial(t, s.addr).Want(t, "/", "pong", false)
	k.drain(time.Millisecond)
	k.drained()
	w.wait()
}

// descriptors are those that this process has open.
func descriptors(t *testing.T) int {
	t.Helper()
	open, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(open)
}

// A worker that leaves without its master's word goes on accepting until it is
// quiet: nobody has steered its clients away.
func TestLeaveUnasked(t *testing.T) {
	s := newSlot(t, "http")
	w, k := managed(t, func(w *Worker) { w.Handle("http", workertest.Pong) })
	k.activate(s)
	kept := workertest.Dial(t, s.addr)
	kept.Want(t, "/", "pong", false)
	w.stop() // as SIGTERM does
	w.leaves()
	workertest.Dial(t, s.addr).Want(t, "/", "pong", true)
	kept.Want(t, "/", "pong", true)
	k.drained()
	w.wait()
}
