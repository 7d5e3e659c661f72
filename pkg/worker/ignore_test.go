//go:build linux

package worker

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A program's functions may ignore their end, or never return at all. Run returns
// nevertheless, soon after the drain's time is up.

// handsOff answers a request by handing its connection off once the worker leaves.
func handsOff(t *testing.T, w *Worker) {
	w.Handle("http", http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		conn, _, err := http.NewResponseController(rw).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		io.WriteString(conn, "hello\n")
		<-Leaving(r.Context())
		if err := w.HandOff(r.Context(), conn, Parcel{Kind: "talk"}); err != nil {
			t.Error(err)
		}
	}))
}

// given has the new worker of a couple receive a connection by fn.
func given(t *testing.T, fn func(context.Context, net.Conn, Parcel)) *couple {
	t.Helper()
	received := make(chan struct{})
	c := newCouple(t, func(name string, w *Worker) {
		handsOff(t, w)
		w.Receive("talk", []int{0}, func(ctx context.Context, conn net.Conn, p Parcel) {
			close(received)
			fn(ctx, conn, p)
		})
	})
	k := dial(t, c.slot.addr)
	io.WriteString(k.c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	if line, err := k.br.ReadString('\n'); err != nil || line != "hello\n" {
		t.Fatal(line, err)
	}
	c.switchOver()
	<-received
	return c
}

func TestRunReturnsThoughAReceiveFunctionIgnoresItsEnd(t *testing.T) {
	release := make(chan struct{})
	c := given(t, func(context.Context, net.Conn, Parcel) { <-release })
	c.toNew.drain(50 * time.Millisecond)
	if err := c.new.wait(); err != nil {
		t.Error(err)
	}
	close(release)
}

// Who waits for the end of its context only, and reads nothing, is told of the cut: it
// need not be left behind.
func TestTheContextOfAReceivedConnectionEndsWithTheCut(t *testing.T) {
	var ended atomic.Bool
	c := given(t, func(ctx context.Context, _ net.Conn, _ Parcel) {
		<-ctx.Done()
		ended.Store(true)
	})
	c.toNew.drain(50 * time.Millisecond)
	if err := c.new.wait(); err != nil {
		t.Error(err)
	}
	if !ended.Load() {
		t.Error("the function's context has not ended")
	}
}

// The same without a master, on the way that a TERM takes.
func TestRunReturnsThoughAHookOfTheServerNeverReturns(t *testing.T) {
	release := make(chan struct{})
	defer close(release)
	hangs := Server(func(s *http.Server) {
		s.ConnContext = func(ctx context.Context, _ net.Conn) context.Context {
			<-release
			return ctx
		}
	})
	addr := freeAddress(t)
	w := workerWith(t, Options{DrainTimeout: 50 * time.Millisecond}, nil)
	w.Handle("http", pong, hangs, Address(addr))
	r := run(t, w)
	eventually(t, "it serves", func() bool { return w.State() == StateActive })
	for range 5 { // the first holds up net/http, the others are taken out of the queue by the drain
		dial(t, addr)
	}
	eventually(t, "one has come in", func() bool { return r.Stats().Open > 0 })
	r.stop()
	if err := r.wait(); err != nil {
		t.Error(err)
	}
}

// A process without a master does not survive its second TERM, whatever its functions do.
func TestAHungProcessEndsWithTERM(t *testing.T) {
	addr := freeAddress(t)
	p := startChild(t, "hung", "", nil, "WORKER_TEST_ADDRESS="+addr)
	p.says("active")
	for range 5 {
		dial(t, addr)
	}
	p.says("entered")
	if err := p.Process.Signal(unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	p.says("inactive") // it has heard
	if err := p.Process.Signal(unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	p.says("done")
	p.end(0)
}

// A health check whose server hangs does not keep the worker from hearing its master.
func TestAHookThatNeverReturnsHoldsUpNoMessage(t *testing.T) {
	release := make(chan struct{})
	defer close(release)
	w, k := managed(t, func(w *Worker) {
		w.opts.DrainTimeout = 50 * time.Millisecond
		w.Handle("http", pong, Server(func(s *http.Server) {
			s.ConnContext = func(ctx context.Context, _ net.Conn) context.Context {
				<-release
				return ctx
			}
		}))
	})
	s := newSlot(t, "http")
	k.activate(s)
	for range 3 {
		k.pass("http", "probe")
		k.pass("http", "serve")
	}
	k.park()
	k.drain(50 * time.Millisecond)
	if err := w.wait(); err != nil {
		t.Error(err)
	}
}

// A function that makes a server and never returns does not keep a worker that is told
// to leave.
func TestRunReturnsThoughItsServerIsNeverMade(t *testing.T) {
	release, asked := make(chan struct{}), make(chan struct{})
	defer close(release)
	w := workerWith(t, Options{DrainTimeout: 50 * time.Millisecond}, nil)
	w.Serve("lines", func() GracefulServer {
		close(asked)
		<-release
		return newLines(1)
	}, Address("127.0.0.1:0"))
	r := run(t, w)
	<-asked
	r.stop()
	if err := r.wait(); err != nil {
		t.Error(err)
	}
}

// What waits in the kernel, unread, when an idle connection is about to be closed is a
// request: it is answered.

// between is a hook of net/http's that holds a connection between its answer and the
// wait for the next request.
func between(hold chan struct{}, reached chan<- struct{}) ListenerOption {
	var first atomic.Bool
	return Server(func(s *http.Server) {
		s.ConnState = func(_ net.Conn, state http.ConnState) {
			if state == http.StateIdle && !first.Swap(true) {
				reached <- struct{}{}
				<-hold
			}
		}
	})
}

// arrived waits until the client's bytes are with the server's kernel.
func arrived(t *testing.T, c net.Conn) {
	t.Helper()
	raw, err := c.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "what was sent has arrived", func() bool {
		unsent := 1
		_ = raw.Control(func(fd uintptr) { unsent, err = unix.IoctlGetInt(int(fd), unix.SIOCOUTQ) })
		return err == nil && unsent == 0
	})
}

func TestThinningLeavesARequestInTheKernelAlone(t *testing.T) {
	hold, reached := make(chan struct{}), make(chan struct{}, 1)
	addr := freeAddress(t)
	w := workerWith(t, Options{DrainTimeout: 4 * time.Second}, nil) // idle connections are closed in its last second
	w.Handle("http", pong, between(hold, reached), Address(addr))
	r := run(t, w)
	eventually(t, "it serves", func() bool { return w.State() == StateActive })
	asks, rests := dial(t, addr), dial(t, addr)
	asks.want(t, "/", "pong", false)
	<-reached
	rests.want(t, "/", "pong", false)
	if err := asks.write("GET", "/", ""); err != nil {
		t.Fatal(err)
	}
	arrived(t, asks.c)
	r.stop()
	rests.wantEnd(t) // idle connections are being closed
	time.Sleep(4 * thinTick)
	close(hold)
	if body, closing, err := asks.read(); body != "pong" || !closing || err != nil {
		t.Errorf("%q, close %v, %v", body, closing, err)
	}
	if n := r.Stats().Cut; n != 1 {
		t.Errorf("%d connections were cut, want the one that rested", n)
	}
	if err := r.wait(); err != nil {
		t.Error(err)
	}
}

// The idle timeout of net/http is over before it looks.
func TestTheIdleTimeoutLeavesARequestInTheKernelAlone(t *testing.T) {
	hold, reached := make(chan struct{}), make(chan struct{}, 1)
	_, addr := alone(t, pong, between(hold, reached), Server(func(s *http.Server) { s.IdleTimeout = time.Nanosecond }))
	k := dial(t, addr)
	k.want(t, "/", "pong", false)
	<-reached
	if err := k.write("GET", "/", ""); err != nil {
		t.Fatal(err)
	}
	arrived(t, k.c)
	close(hold)
	if body, closing, err := k.read(); body != "pong" || closing || err != nil {
		t.Errorf("%q, close %v, %v", body, closing, err)
	}
	k.wantEnd(t) // nothing came this time
}

// A connection that has moved waits in the lobby, under the same timeout.
func TestTheLobbyLeavesARequestInTheKernelAlone(t *testing.T) {
	d := &door{listener: &listener{name: "http"}, public: &http.Server{IdleTimeout: time.Nanosecond}, passed: newHandIn(), traffic: newTraffic(), handover: nil}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	for _, sends := range []bool{true, false} {
		k := dial(t, ln.Addr().String())
		nc, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		if sends {
			if err := k.write("GET", "/", ""); err != nil {
				t.Fatal(err)
			}
			arrived(t, k.c)
		}
		d.linger(d.adopt(nc))
		if !sends {
			k.wantEnd(t)
			continue
		}
		put := make(chan net.Conn, 1)
		go func() {
			if c, err := d.passed.(*handIn).Accept(); err == nil {
				put <- c
			}
		}()
		select {
		case c := <-put:
			b := make([]byte, 3)
			if _, err := io.ReadFull(c, b); err != nil || !strings.HasPrefix("GET", string(b)) {
				t.Errorf("the server reads %q, %v", b, err)
			}
		case <-time.After(patience):
			t.Error("the connection was closed under its request")
			d.passed.Close()
		}
	}
	d.serving.Wait()
}
