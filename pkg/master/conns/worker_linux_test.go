package conns

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// asks asks on a kept connection until it is closed by the other side, with pauses; what it
// returns tells how often, once it is.
func asks(t *testing.T, c net.Conn, pause time.Duration, lost *atomic.Int64) (closed chan int) {
	t.Helper()
	closed = make(chan int, 1)
	in := bufio.NewReader(c)
	go func() {
		for n := 0; ; n++ {
			_ = c.SetReadDeadline(time.Now().Add(pause))
			if _, err := in.Peek(1); errors.Is(err, io.EOF) {
				closed <- n
				return
			}
			_ = c.SetReadDeadline(time.Time{})
			if _, err := fmt.Fprintln(c, "answer"); err != nil {
				t.Error(err)
			}
			switch line, err := in.ReadString('\n'); {
			case err == io.EOF && line == "": // it was on its way as the connection was closed
				lost.Add(1)
				closed <- n
				return
			case err != nil || line != "done\n":
				t.Errorf("request %d: %q, %v", n+1, line, err)
				closed <- n
				return
			}
		}
	}()
	return closed
}

// Kept connections are closed one at a time, under clients that go on asking. One on which
// somebody waits, one that was answered once and one of another program's are left.
func TestConnectionsAreClosedOneAtATime(t *testing.T) {
	pid, at := serve(t, "127.0.0.1:0")
	waits, once := dial(t, at), dial(t, at)
	fmt.Fprintln(waits, "think")
	fmt.Fprintln(once, "answer")
	if _, err := bufio.NewReader(once).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	var closed []chan int
	var lost atomic.Int64
	for range 8 {
		closed = append(closed, asks(t, dial(t, at), 90*time.Millisecond, &lost))
	}
	w := NewWatch()
	x := w.Worker(func() []int { return []int{pid} }, []Place{{at, true}}, nil)
	var left Left
	for end := time.Now().Add(time.Minute); left.Closed < len(closed); time.Sleep(5 * time.Millisecond) {
		var err error
		if left, _, err = x.Look(t.Context(), Hurry, maxClosed); err != nil || time.Now().After(end) {
			t.Fatalf("%+v, %v", left, err)
		}
	}
	for _, c := range closed {
		<-c
	}
	if left.Open != 2 || left.Waiting != 1 {
		t.Errorf("%+v", left)
	}
	if n := lost.Load(); n > 2 { // a busy machine takes the processor in between
		t.Errorf("%d of %d requests were lost that came as their connection was closed", n, len(closed))
	}
	// Nobody but the worker's own connections is meant.
	other, _ := serve(t, "127.0.0.1:0")
	y := w.Worker(func() []int { return []int{other} }, []Place{{at, true}}, nil)
	if left, _, err := y.Look(t.Context(), Last, maxClosed); err != nil || left.Open != 0 {
		t.Errorf("%+v, %v", left, err)
	}
	// What has been answered is closed at the very end, of any protocol; who waits is not.
	z := w.Worker(func() []int { return []int{pid} }, []Place{{at, false}}, nil)
	if left, _, err := z.Look(t.Context(), Last, maxClosed); err != nil || left.Open != 2 || left.Closed != 0 {
		t.Errorf("%+v, %v", left, err)
	}
}

// Between the look at the table and the end of the connection a request may have come.
func TestARequestThatHasComeIsNotLost(t *testing.T) {
	pid, at := serve(t, "127.0.0.1:0")
	c := dial(t, at)
	in := bufio.NewReader(c)
	ask := func() {
		fmt.Fprintln(c, "answer")
		if _, err := in.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
	}
	ask()
	w := NewWatch()
	x := w.Worker(func() []int { return []int{pid} }, []Place{{at, false}}, nil)
	var all []due
	look := func(m Mode) {
		if _, err := w.Look(x.at); err != nil {
			t.Fatal(err)
		}
		_, all = x.review(m)
	}
	for end := time.Now().Add(time.Minute); len(all) == 0; time.Sleep(10 * time.Millisecond) {
		if _, _, err := x.Look(t.Context(), Count, maxClosed); err != nil || time.Now().After(end) {
			t.Fatal(err)
		}
		ask()
		time.Sleep(2 * leastQuiet)
		look(Last)
	}
	d := all[0]
	ask()
	if closed, err := x.close(t.Context(), d); err != nil || closed {
		t.Errorf("%v, %v", closed, err)
	}
	time.Sleep(2 * leastQuiet)
	look(Last)
	if closed, err := x.close(t.Context(), all[0]); err != nil || !closed {
		t.Errorf("%v, %v", closed, err)
	}
	// A descriptor that stands for something else by now is left alone.
	d = all[0]
	for fd := range 3 {
		d.holder.fd = fd
		if closed, err := x.close(t.Context(), d); err != nil || closed {
			t.Errorf("descriptor %d: %v, %v", fd, closed, err)
		}
	}
	if x.strange != 3 {
		t.Errorf("%d were strange", x.strange)
	}
	x.strange = maxStrange + 1
	if _, _, err := x.Look(t.Context(), Last, maxClosed); !errors.Is(err, ErrNotAllowed) {
		t.Errorf("one that exchanges its descriptors: %v", err)
	}
}

// A connection that the worker's program closes at that moment, with SO_LINGER and data that
// nobody takes, is not waited for.
func TestACopyThatLingersIsNotWaitedFor(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c := dial(t, netip.MustParseAddrPort(l.Addr().String()))
	a, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	_ = c.(*net.TCPConn).SetReadBuffer(4096)
	raw, err := a.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	_ = a.SetWriteDeadline(time.Now().Add(200 * time.Millisecond))
	_, _ = a.Write(make([]byte, 16<<20)) // more than there is room for
	var h holder
	_ = raw.Control(func(fd uintptr) {
		_ = unix.SetsockoptLinger(int(fd), unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1, Linger: 120})
		h = holder{os.Getpid(), int(fd)}
	})
	fd, err := copyOf(h)
	if err != nil {
		t.Skip(err)
	}
	// The program's close, which is not the last one.
	if err := unix.Dup3(int(os.Stdin.Fd()), h.fd, unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	x := NewWatch().Worker(nil, nil, nil)
	x.discard(context.Background(), fd)
	if took := time.Since(begun); took > 30*time.Second {
		t.Errorf("it was waited for for %v", took)
	}
}

// What a look costs with 10,000 connections, of which half are kept and none is to be closed.
func BenchmarkLook(b *testing.B) {
	const n = 10_000
	pid, at := serve(b, "127.0.0.1:0")
	for i := range n {
		c := dial(b, at)
		if i%2 == 0 {
			fmt.Fprintln(c, "think")
		}
	}
	w := NewWatch()
	x := w.Worker(func() []int { return []int{pid} }, []Place{{at, true}}, nil)
	for {
		left, _, err := x.Look(b.Context(), Count, maxClosed)
		if err != nil {
			b.Fatal(err)
		}
		if left.Open == n {
			break
		}
		x.heldAt = time.Time{}
	}
	b.Run("table", func(b *testing.B) {
		for b.Loop() {
			w.places[at].at = time.Time{}
			if _, err := w.Look(x.at); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("descriptors", func(b *testing.B) {
		for b.Loop() {
			if err := x.hold(); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("review", func(b *testing.B) {
		for b.Loop() {
			x.review(Drain)
		}
	})
}
