//go:build linux

package worker

import (
	"errors"
	"fmt"
	"net"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/masterd/masterd/pkg/ipc"
)

// managedLines starts a worker of lines under a master; its listener is "http",
// the one that the master has.
func managedLines(t *testing.T, make func() GracefulServer) (*running, *masterLink) {
	t.Helper()
	return managed(t, func(w *Worker) { w.Serve("http", make) })
}

// The whole story: checked, active, parked, active again with the server that
// was fresh, parked again, drained.
func TestShifts(t *testing.T) {
	s := newSlot(t, "http")
	m := &makeLines{}
	w, k := managedLines(t, m.make)
	const clients, checks = 1, 2
	calling(k.pass("http", ipc.PurposeProbe)).wants(t, checks)
	k.activate(s)
	a := call(t, s.addr)
	a.wants(t, clients)

	k.park()
	a.wantsBye(t)
	a.wants(t, clients) // in flight: finished by its own server
	b := call(t, s.addr)
	b.wants(t, 3) // a parked worker goes on accepting
	k.activate()
	b.wants(t, 3)
	c := call(t, s.addr)
	c.wants(t, 3)
	calling(k.pass("http", ipc.PurposeProbe)).wants(t, checks)

	k.park()
	b.wantsBye(t)
	c.wantsBye(t)
	d := call(t, s.addr)
	d.wants(t, 4)
	k.drain(0)
	d.wantsBye(t)
	for _, c := range []*caller{a, b, c, d} {
		c.c.Close()
	}
	if stats := k.drained(); stats.Open != 0 || stats.Accepted != 4 || stats.Cut != 0 || stats.Requests != 0 {
		t.Errorf("drained with %+v", stats)
	}
	if err := w.wait(); err != nil {
		t.Fatal(err)
	}
	for _, l := range m.made {
		want := 1
		if l.number == checks {
			want = 0
		}
		if l.graceful != want {
			t.Errorf("server %d was stopped gracefully %d times", l.number, l.graceful)
		}
	}
	if !s.nonblocking(t) {
		t.Error("the slot is blocking now, for everybody who shares it")
	}
	if c, err := net.Dial("tcp", s.addr); err != nil {
		t.Errorf("the shared socket was shut down: %v", err)
	} else {
		c.Close()
	}
	noShifts(t)
}

// Nobody came: parking and activating makes no servers.
func TestShiftsUnused(t *testing.T) {
	s := newSlot(t, "http")
	m := &makeLines{}
	w, k := managedLines(t, m.make)
	k.activate(s)
	for range 20 {
		k.park()
		k.activate()
	}
	if n := m.count(); n != 2 {
		t.Errorf("%d servers were made", n)
	}
	k.drain(0)
	k.drained()
	w.wait()
	noShifts(t)
}

// Parked and activated as quickly as messages come, under clients that never
// retry: each connection is answered, whatever moment it comes at, also by a
// server that is slow to begin with what it has accepted.
func TestShiftsQuickly(t *testing.T) {
	const changes, atOnce = 60, 4
	s := newSlot(t, "http")
	m := &makeLines{change: func(l *lines) {
		l.before = func(net.Conn) {
			for range 50 {
				runtime.Gosched()
			}
		}
	}}
	w, k := managedLines(t, m.make)
	k.activate(s)
	var wg sync.WaitGroup
	var stop atomic.Bool
	var answered atomic.Int64
	errs := make(chan error, atOnce)
	for range atOnce {
		wg.Go(func() {
			for !stop.Load() {
				if err := callOnce(s.addr); err != nil {
					errs <- err
					return
				}
				answered.Add(1)
			}
		})
	}
	more := func() {
		want := answered.Load() + 5
		eventually(t, "clients are answered", func() bool { return answered.Load() >= want || len(errs) > 0 })
	}
	for range changes {
		more()
		k.park()
		k.activate()
		k.park()
		more()
		k.activate()
	}
	stop.Store(true)
	wg.Wait()
	close(errs)
	for err := range errs {
		t.Error(err)
	}
	k.drain(0)
	if stats := k.drained(); stats.Cut != 0 || stats.Accepted < uint64(answered.Load()) {
		t.Errorf("drained with %+v after %d calls", stats, answered.Load())
	}
	w.wait()
	if m.count() < 10 {
		t.Errorf("only %d servers were made", m.count())
	}
	noShifts(t)
}

// callOnce is a client's whole visit: three lines, then it leaves.
func callOnce(addr string) error {
	nc, err := net.DialTimeout("tcp", addr, patience)
	if err != nil {
		return err
	}
	defer nc.Close()
	c := calling(nc)
	for i := range 3 {
		fmt.Fprintln(nc, i)
		for {
			got, err := c.next()
			if err != nil {
				return fmt.Errorf("line %d was not answered: %w", i, err)
			}
			if got != "bye" {
				if !strings.HasSuffix(got, fmt.Sprint(" ", i)) {
					return fmt.Errorf("line %d was answered %q", i, got)
				}
				break
			}
		}
	}
	return nil
}

// What a server has accepted and not looked at yet is waited for: one like this
// closes it unanswered when it is stopped then.
func TestShiftsWaitForTheFirstTouch(t *testing.T) {
	s := newSlot(t, "http")
	goOn, inside := make(chan struct{}), make(chan struct{}, 1)
	m := &makeLines{change: func(l *lines) {
		if l.number == 1 {
			l.before = func(net.Conn) { inside <- struct{}{}; <-goOn }
		}
	}}
	w, k := managedLines(t, m.make)
	k.activate(s)
	a := call(t, s.addr)
	<-inside
	k.park()
	close(goOn)
	fmt.Fprintln(a.c, "hello")
	got := map[string]bool{}
	for range 2 { // asked to leave, and answered: whichever is first
		line, err := a.next()
		if err != nil {
			t.Fatal(err)
		}
		got[line] = true
	}
	if !got["bye"] || !got["1 hello"] {
		t.Errorf("got %v", got)
	}
	a.c.Close()
	k.drain(0)
	k.drained()
	w.wait()
	noShifts(t)
}

// One that never looks is not waited for longer than takeUpTimeout.
func TestShiftsNeverTouched(t *testing.T) {
	s := newSlot(t, "http")
	end, inside := make(chan struct{}), make(chan struct{}, 1)
	m := &makeLines{change: func(l *lines) {
		l.before = func(net.Conn) { inside <- struct{}{}; <-end }
	}}
	w, k := managedLines(t, m.make)
	k.activate(s)
	a := call(t, s.addr)
	<-inside
	k.park()
	first := m.first()
	eventually(t, "it is stopped all the same", func() bool {
		first.mu.Lock()
		defer first.mu.Unlock()
		return first.graceful == 1
	})
	close(end)
	a.wantsEnd(t)
	k.drain(0)
	k.drained()
	w.wait()
	noShifts(t)
}

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

// The master's deadline stops servers of all shifts.
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

// Each park leaves a server with a client that stays: only so many, then the
// current one goes on, and everybody is served to the end.
func TestShiftsTooMany(t *testing.T) {
	s := newSlot(t, "http")
	m := &makeLines{}
	w, k := managedLines(t, m.make)
	k.activate(s)
	var stay []*caller
	for i := range maxLeaving + 10 {
		c := call(t, s.addr)
		fmt.Fprintln(c.c, "hello")
		if got, err := c.next(); err != nil || !strings.HasSuffix(got, " hello") {
			t.Fatalf("client %d got %q, %v", i, got, err)
		}
		stay = append(stay, c)
		k.park()
		k.activate()
	}
	if n := m.count(); n != maxLeaving+2 {
		t.Errorf("%d servers were made", n)
	}
	k.drain(0)
	for i, c := range stay {
		c.wantsBye(t)
		fmt.Fprintln(c.c, "hello")
		if got, err := c.next(); err != nil || !strings.HasSuffix(got, " hello") {
			t.Fatalf("client %d got %q, %v at the end", i, got, err)
		}
		c.c.Close()
	}
	if stats := k.drained(); stats.Cut != 0 {
		t.Errorf("drained with %+v", stats)
	}
	w.wait()
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
