//go:build linux

package session

import (
	"errors"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/masterd/masterd/pkg/ipc"
	"github.com/masterd/masterd/pkg/ipc/fdpass"
)

// vandal is somebody who is allowed to connect and means no good. It connects
// once, in the n-th of its ways.
func vandal(path string, n, pipe int) error {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.Connect(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		return err
	}
	send := func(b string, fds ...int) error {
		err := unix.Sendmsg(fd, []byte(b), unix.UnixRights(fds...), nil, unix.MSG_NOSIGNAL)
		if err == unix.EPIPE || err == unix.ECONNRESET {
			return nil // it was not let in
		}
		return err
	}
	switch n % 8 {
	case 0: // leaves
		return nil
	case 1:
		return send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
	case 2:
		return send(`{"type":"hello","x":"` + strings.Repeat("x", 100<<10))
	case 3:
		return send(strings.Repeat(`{"type":`, 8000), pipe, pipe, pipe)
	case 4:
		return send(`{"type":"ready"}`, pipe)
	case 5:
		return send("\x00\xff\xfe")
	case 6:
		return send(`{"type":"hello","hello":{"min":1,"max":1,"worker":7,"generation":3,"pid":1,"secret":"guess"}}`, pipe, pipe)
	default: // takes its time to say nothing
		var b [1]byte
		tv := unix.NsecToTimeval(int64(5 * time.Millisecond))
		_ = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv)
		_, _ = unix.Read(fd, b[:])
		return nil
	}
}

// Ten thousand connections of garbage: a worker goes on as if there were none,
// and another one can join.
func TestAFloodOfGarbage(t *testing.T) {
	connections := 10_000
	if testing.Short() {
		connections = 1_000
	}
	h := newHouse(t)
	e := h.expect()
	p := h.join(e, ipc.StateNew)
	_, pipeFD := pipe(t)
	defer closeFDs([]int{pipeFD})

	const vandals = 8
	var todo, came atomic.Int64
	todo.Store(int64(connections))
	var crowd sync.WaitGroup
	for range vandals {
		crowd.Go(func() {
			for {
				n := todo.Add(-1)
				if n < 0 {
					return
				}
				if err := vandal(h.path, int(n), pipeFD); err != nil {
					t.Error(err)
					return
				}
				came.Add(1)
			}
		})
	}
	over := make(chan struct{})
	go func() {
		crowd.Wait()
		close(over)
	}()

	// Another worker joins in the middle of it, as the SDK would.
	joined := make(chan Fact, 8)
	o := expectation(func(f Fact) { joined <- f })
	o.Worker = 8
	h.hub.Expect(o).SetPID(os.Getpid())
	other := (&expected{e: o}).hello(ipc.StateNew)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			l, err := ipc.Dial(h.path)
			if errors.Is(err, syscall.EAGAIN) {
				continue // the queue of connections is full
			}
			if err != nil {
				t.Error(err)
				return
			}
			if l.Send(other) == nil {
				if m, _, err := l.Recv(); err == nil && m.Type == ipc.TypeWelcome {
					<-over
					l.Close()
					return
				}
			}
			l.Close()
			came.Add(1)
		}
	}()

	// The worker answers and is heard.
	beats := 0
	var worst time.Duration
	pace := time.NewTicker(time.Second / (maxRate / 4))
	defer pace.Stop()
	for flood := true; flood; {
		began := time.Now()
		if err := e.Pause(); err != nil {
			t.Fatal(err)
		}
		m, _ := p.hear(ipc.TypePause)
		p.say(ipc.Message{Type: ipc.TypePaused, Seq: m.Seq})
		if f := e.want(Paused); f.Seq != m.Seq {
			t.Fatalf("%+v answers request %d", f, m.Seq)
		}
		p.say(ipc.Message{Type: ipc.TypeBeat, Stats: &ipc.Stats{}})
		e.want(Beat)
		beats++
		worst = max(worst, time.Since(began))
		select {
		case <-pace.C:
		case <-over:
			flood = false
		}
	}
	<-done
	if f := <-joined; f.Kind != Connected {
		t.Errorf("the other worker: %+v", f)
	}
	h.wantAllRefused(int(came.Load()))
	if refused, pending := h.hub.counters(); refused != int(came.Load()) || pending != 0 {
		t.Errorf("%d refused, %d pending", refused, pending)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	t.Logf("%d connections refused %v; %d beats meanwhile, the longest round trip %v", came.Load(), h.refused, beats, worst)
	if lines := h.logs.FilterMessage("refused a connection to the control socket").Len(); lines > 120 {
		t.Errorf("%d lines in the log", lines)
	}
}

// When too many have not said hello, more are sent away; but not a worker whom
// the master has just started.
func TestACrowdBeforeTheDoor(t *testing.T) {
	h := newPatientHouse(t, time.Hour)
	h.hub.Expect(Expect{Worker: 9, UID: uint32(os.Getuid())}) // they are of a worker's user
	for range maxGreeting {
		h.dial()
	}
	for range 3 {
		h.dial().wantEnd()
	}
	h.wantRefused(RefusedCrowd, 3)
	if refused, pending := h.hub.counters(); refused != 3 || pending != maxGreeting {
		t.Errorf("%d refused, %d pending", refused, pending)
	}

	e := h.expect()
	h.join(e, ipc.StateNew)
	again := h.dial()
	h.dial().wantEnd() // one at a time
	h.wantRefused(RefusedCrowd, 4)
	again.say(e.hello(ipc.StateNew))
	again.hear(ipc.TypeWelcome)
	e.want(Lost)
	e.want(Connected)
	if _, pending := h.hub.counters(); pending != maxGreeting {
		t.Errorf("%d pending", pending)
	}
}

// Whatever comes and goes, every descriptor is closed in the end.
func TestNoDescriptorIsLost(t *testing.T) {
	t.Run("warm up", func(t *testing.T) { visit(t) }) // the runtime keeps some for itself
	before := countFDs(t)
	for range 3 {
		t.Run("visit", func(t *testing.T) { visit(t) })
	}
	after := countFDs(t)
	for end := time.Now().Add(patience); after != before && time.Now().Before(end); after = countFDs(t) {
		time.Sleep(time.Millisecond) // they are closed beside whoever lets go of them
	}
	if after != before {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
}

func visit(t *testing.T) {
	h := newHouse(t)
	e := h.expect()
	p := h.join(e, ipc.StateNew)
	_, w := pipe(t)
	defer closeFDs([]int{w})
	for n := range 64 {
		if err := vandal(h.path, n, w); err != nil {
			t.Fatal(err)
		}
	}
	// Some that are read, some that wait in the kernel, some that wait here.
	for n := range maxQueue {
		if err := e.Activate([]string{"a", "b"}, []int{w, w}); err != nil {
			break
		}
		if n < 8 {
			_, fds := p.hear(ipc.TypeActivate)
			closeFDs(fds)
		}
	}
	p.Close()
	e.want(Lost)
	h.wantAllRefused(64)
}

func countFDs(t *testing.T) int {
	t.Helper()
	for now, _ := fdpass.Closing(); now > 0; now, _ = fdpass.Closing() {
		time.Sleep(time.Millisecond) // they are closed beside whoever lets go of them
	}
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// A worker that connects again and again has a bound: each time costs the master's loop
// all that a worker is told when it comes back.
func TestAWorkerThatConnectsAgainAndAgain(t *testing.T) {
	h := newHouse(t)
	e := h.expect()
	const times = 300
	began, welcomed := time.Now(), 0
	for range times {
		p := h.dial()
		p.say(e.hello(ipc.StateNew))
		if err := p.SetReadDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		if m, _, err := p.Recv(); err == nil && m.Type == ipc.TypeWelcome {
			welcomed++
		} else if err == nil {
			t.Fatalf("it was told %+v", m) // a reject is final to who was never welcomed
		}
		p.Close()
	}
	if most := maxWelcomes * (2 + int(time.Since(began)/rateWindow)); welcomed > most || welcomed < maxWelcomes {
		t.Errorf("%d of %d connections were welcomed in %v, at most %d should be", welcomed, times, time.Since(began), most)
	}
	h.wantRefused(RefusedOften, times-welcomed)
	for late := time.Now().Add(patience); !time.Now().After(late); time.Sleep(10 * time.Millisecond) {
		p := h.dial()
		p.say(e.hello(ipc.StateNew))
		if m, _, err := p.Recv(); err == nil && m.Type == ipc.TypeWelcome {
			return // it may, once it has slowed down
		}
		p.Close()
	}
	t.Error("it is never welcomed again")
}

// counters says how many connections were refused so far, and how many are open whose
// hello has not been accepted yet.
func (h *Hub) counters() (refused, pending int) {
	h.mu.Lock()
	pending = len(h.greeting)
	h.mu.Unlock()
	h.door.mu.Lock()
	defer h.door.mu.Unlock()
	return h.door.refused, pending
}
