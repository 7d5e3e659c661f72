//go:build linux

package worker

import (
	"context"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/masterd/masterd/pkg/worker/internal/control"
	"github.com/masterd/masterd/pkg/worker/internal/workertest"
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
	k := workertest.Dial(t, c.slot.addr)
	io.WriteString(k.Conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	if line, err := k.Reader.ReadString('\n'); err != nil || line != "hello\n" {
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
	w.Handle("http", workertest.Pong, hangs, Address(addr))
	r := run(t, w)
	workertest.Eventually(t, "it serves", func() bool { return w.State() == StateActive })
	for range 5 { // the first holds up net/http, the others are taken out of the queue by the drain
		workertest.Dial(t, addr)
	}
	workertest.Eventually(t, "one has come in", func() bool { return r.Stats().Open > 0 })
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
		workertest.Dial(t, addr)
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
		w.Handle("http", workertest.Pong, Server(func(s *http.Server) {
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

func TestThinningLeavesARequestInTheKernelAlone(t *testing.T) {
	hold, reached := make(chan struct{}), make(chan struct{}, 1)
	addr := freeAddress(t)
	w := workerWith(t, Options{DrainTimeout: 4 * time.Second}, nil) // idle connections are closed in its last second
	w.Handle("http", workertest.Pong, between(hold, reached), Address(addr))
	r := run(t, w)
	workertest.Eventually(t, "it serves", func() bool { return w.State() == StateActive })
	asks, rests := workertest.Dial(t, addr), workertest.Dial(t, addr)
	asks.Want(t, "/", "pong", false)
	<-reached
	rests.Want(t, "/", "pong", false)
	if err := asks.Write("GET", "/", ""); err != nil {
		t.Fatal(err)
	}
	workertest.Arrived(t, asks.Conn)
	r.stop()
	rests.WantEnd(t) // idle connections are being closed
	time.Sleep(4 * control.IdleCloseInterval)
	close(hold)
	if body, closing, err := asks.Read(); body != "pong" || !closing || err != nil {
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
	_, addr := alone(t, workertest.Pong, between(hold, reached), Server(func(s *http.Server) { s.IdleTimeout = time.Nanosecond }))
	k := workertest.Dial(t, addr)
	k.Want(t, "/", "pong", false)
	<-reached
	if err := k.Write("GET", "/", ""); err != nil {
		t.Fatal(err)
	}
	workertest.Arrived(t, k.Conn)
	close(hold)
	if body, closing, err := k.Read(); body != "pong" || closing || err != nil {
		t.Errorf("%q, close %v, %v", body, closing, err)
	}
	k.WantEnd(t) // nothing came this time
}
