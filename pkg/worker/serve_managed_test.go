//go:build linux

package worker

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/masterd/masterd/pkg/ipc"
)

func TestServeDrainTakesTheQueue(t *testing.T) {
	const waiting = 40
	s := newSlot(t, "http")
	var cs []*caller
	for range waiting {
		c := call(t, s.addr)
		fmt.Fprintln(c.c, "hello")
		cs = append(cs, c)
	}
	w, k := managedLines(t, (&makeLines{}).make)
	k.activate(s)
	k.drain(0)
	for i, c := range cs {
		for got := "bye"; got != "1 hello"; {
			var err error
			if got, err = c.next(); err != nil {
				t.Fatalf("connection %d: %v", i, err)
			}
		}
		c.c.Close()
	}
	if stats := k.drained(); stats.Accepted != waiting || stats.Cut != 0 {
		t.Errorf("drained with %+v", stats)
	}
	w.wait()
	noShifts(t)
}

// The master's deadline stops all servers.
func TestServeDrainDeadline(t *testing.T) {
	s := newSlot(t, "http")
	w, k := managedLines(t, (&makeLines{}).make)
	k.activate(s)
	a := call(t, s.addr)
	a.wants(t, 1)
	k.park()
	b := call(t, s.addr)
	b.wants(t, 3)
	k.drain(20 * time.Millisecond)
	if stats := k.drained(); stats.Cut != 2 || stats.Open != 0 {
		t.Errorf("drained with %+v", stats)
	}
	if err := w.wait(); err != nil {
		t.Fatal(err)
	}
	a.wantsBye(t)
	a.wantsEnd(t)
	noShifts(t)
}

// While paused nothing is taken from the socket, as with HTTP.
func TestServePauseResume(t *testing.T) {
	s := newSlot(t, "http")
	w, k := managedLines(t, (&makeLines{}).make)
	k.activate(s)
	for range 5 {
		c := call(t, s.addr)
		c.wants(t, 1)
		k.ask(ipc.Message{Type: ipc.TypePause}, ipc.TypePaused)
		taken := w.Stats().Accepted
		queued := call(t, s.addr)
		if s.queued(t) != 1 || w.Stats().Accepted != taken {
			t.Fatal("a connection was taken while paused")
		}
		k.ask(ipc.Message{Type: ipc.TypeResume}, ipc.TypeAccepting)
		queued.wants(t, 1)
		queued.c.Close()
		c.c.Close()
	}
	// A drain while paused leaves the queue to whoever accepts.
	k.ask(ipc.Message{Type: ipc.TypePause}, ipc.TypePaused)
	call(t, s.addr)
	k.drain(0)
	k.drained()
	w.wait()
	if n := s.queued(t); n != 1 {
		t.Errorf("%d wait in the queue that was not ours", n)
	}
	noShifts(t)
}

// Checks are served in every state, by a server that no park stops, and are
// counted apart. A client that is passed counts as any other.
func TestServePassed(t *testing.T) {
	s := newSlot(t, "http")
	w, k := managedLines(t, (&makeLines{}).make)
	probe := func() *caller {
		t.Helper()
		c := calling(k.pass("http", ipc.PurposeProbe))
		t.Cleanup(func() { c.c.Close() })
		fmt.Fprintln(c.c, "where")
		if got, err := c.next(); err != nil || got != "2 127.0.0.1:0" {
			t.Fatalf("a check is answered %q, %v", got, err)
		}
		return c
	}
	first := probe()
	k.activate(s)
	probe()
	passed := calling(k.pass("http", ipc.PurposeServe))
	passed.wants(t, 1)
	k.park()
	passed.wantsBye(t)
	probe()
	if n := w.Stats(); n.Open != 1 || n.Accepted != 1 {
		t.Errorf("counted as %+v", n)
	}
	k.drain(0)
	w.leaves()
	probe()
	first.wants(t, 2)
	// One that comes after the last server has gone is served by one of its own.
	late := calling(k.pass("http", ipc.PurposeServe))
	fmt.Fprintln(late.c, "hello")
	for bye, answer := false, false; !bye || !answer; {
		switch got, err := late.next(); {
		case err != nil:
			t.Fatal(err)
		case got == "bye":
			bye = true
		case strings.HasSuffix(got, " hello"):
			answer = true
		default:
			t.Fatalf("answered %q", got)
		}
	}
	late.c.Close()
	passed.c.Close()
	if stats := k.drained(); stats.Accepted != 2 || stats.Cut != 0 {
		t.Errorf("drained with %+v", stats)
	}
	w.wait()
	first.wantsEnd(t)
	noShifts(t)
}

// No fresh server can be made at a park: the current one goes on, its clients
// hear nothing of it, and the next park is another try.
func TestServeMakeFailsAtPark(t *testing.T) {
	s := newSlot(t, "http")
	m := &makeLines{}
	var broken atomic.Int32
	w, k := managedLines(t, func() GracefulServer {
		switch broken.Load() {
		case 1:
			panic("no key")
		case 2:
			return nil
		}
		return m.make()
	})
	k.activate(s)
	a := call(t, s.addr)
	a.wants(t, 1)
	for how := range int32(2) {
		broken.Store(how + 1)
		k.park()
		a.wants(t, 1)
		call(t, s.addr).wants(t, 1)
		k.activate()
	}
	broken.Store(0)
	k.park()
	a.wantsBye(t)
	k.drain(time.Millisecond)
	k.drained()
	if err := w.wait(); err != nil {
		t.Fatal(err)
	}
	noShifts(t)
}

// A candidate whose server cannot serve says why and ends; it had nobody.
func TestServeFailsUnderAMaster(t *testing.T) {
	m := newMaster(t)
	w := workerWith(t, Options{}, m.env())
	welcomed := make(chan struct{})
	w.Serve("http", func() GracefulServer {
		return &deaf{lines: newLines(1), serve: func(net.Listener) error { <-welcomed; return errors.New("no codec") }}
	})
	r := run(t, w)
	k, _ := m.accept()
	k.welcome("http")
	close(welcomed)
	for {
		if _, ok := k.next(); !ok {
			break
		}
	}
	if err := r.wait(); err == nil || !strings.Contains(err.Error(), "no codec") {
		t.Errorf("Run says %v", err)
	}
	noShifts(t)
}

// A server that fails later: its connections and those of others end politely,
// what still arrives meets a fresh one, and Run says what it was.
func TestServeFailsLater(t *testing.T) {
	s := newSlot(t, "http")
	m := &makeLines{}
	fail := make(chan struct{})
	w, k := managedLines(t, func() GracefulServer {
		l := m.make().(*lines)
		if l.number != 1 {
			return l
		}
		return &deaf{lines: l, serve: func(ln net.Listener) error {
			go l.Serve(ln)
			<-fail
			return errors.New("out of order")
		}}
	})
	k.activate(s)
	a := call(t, s.addr)
	a.wants(t, 1)
	close(fail)
	a.wantsBye(t)
	b := call(t, s.addr)
	b.wants(t, 3)
	a.c.Close()
	b.c.Close()
	k.drained()
	if err := w.wait(); err == nil || !strings.Contains(err.Error(), "out of order") {
		t.Errorf("Run says %v", err)
	}
	noShifts(t)
}

// Clients that die instead of leaving are waited for no longer.
func TestServePeersDie(t *testing.T) {
	s := newSlot(t, "http")
	w, k := managedLines(t, (&makeLines{}).make)
	k.activate(s)
	a, b := call(t, s.addr), call(t, s.addr)
	a.wants(t, 1)
	b.wants(t, 1)
	die := func(c *caller) {
		c.c.(*net.TCPConn).SetLinger(0)
		c.c.Close()
	}
	die(a)
	k.park()
	b.wantsBye(t)
	k.drain(0)
	die(b)
	if stats := k.drained(); stats.Open != 0 || stats.Cut != 0 || stats.Accepted != 2 {
		t.Errorf("drained with %+v", stats)
	}
	w.wait()
	noShifts(t)
}

// The master has died, then the worker is asked to leave: it goes on accepting,
// since nobody else does, until nothing is open.
func TestServeLeavesWithoutItsMaster(t *testing.T) {
	s := newSlot(t, "http")
	w, k := managedLines(t, (&makeLines{}).make)
	k.activate(s)
	a := call(t, s.addr)
	a.wants(t, 1)
	k.close()
	w.stop()
	a.wantsBye(t)
	a.wants(t, 1)
	b := call(t, s.addr)
	b.wants(t, 3)
	a.c.Close()
	b.c.Close()
	if err := w.wait(); err != nil {
		t.Fatal(err)
	}
	if n := w.Stats(); n.Open != 0 || n.Cut != 0 || n.Accepted != 2 {
		t.Errorf("left with %+v", n)
	}
	noShifts(t)
}
