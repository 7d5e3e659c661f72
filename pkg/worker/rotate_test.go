//go:build linux

package worker

import (
	"fmt"
	"net"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/masterd/masterd/pkg/ipc"
	"github.com/masterd/masterd/pkg/worker/internal/rotate"
	"github.com/masterd/masterd/pkg/worker/internal/tasks"
	"github.com/masterd/masterd/pkg/worker/internal/workertest"
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
	var wg tasks.Group
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
		workertest.Eventually(t, "clients are answered", func() bool { return answered.Load() >= want || len(errs) > 0 })
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
	nc, err := net.DialTimeout("tcp", addr, workertest.Patience)
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
	workertest.Comes(t, inside)
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
	workertest.Comes(t, inside)
	k.park()
	first := m.first()
	workertest.Eventually(t, "it is stopped all the same", func() bool {
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

// Each park leaves a server with a client that stays: only so many, then the
// current one goes on, and everybody is served to the end.
func TestShiftsTooMany(t *testing.T) {
	s := newSlot(t, "http")
	m := &makeLines{}
	w, k := managedLines(t, m.make)
	k.activate(s)
	var stay []*caller
	for i := range rotate.MaxStopping + 10 {
		c := call(t, s.addr)
		fmt.Fprintln(c.c, "hello")
		if got, err := c.next(); err != nil || !strings.HasSuffix(got, " hello") {
			t.Fatalf("client %d got %q, %v", i, got, err)
		}
		stay = append(stay, c)
		k.park()
		k.activate()
	}
	if n := m.count(); n != rotate.MaxStopping+2 {
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
