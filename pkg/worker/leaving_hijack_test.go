//go:build linux

package worker

import (
	"context"
	"io"
	"net"
	"net/http"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/masterd/masterd/pkg/worker/internal/workertest"
)

// hub is how most programs with WebSockets are made: the handler takes the connection, has
// somebody else serve it, and returns.
func hub(rw http.ResponseWriter, r *http.Request, register func(ctx context.Context, conn net.Conn)) {
	conn, _, err := http.NewResponseController(rw).Hijack()
	if err != nil {
		panic(err)
	}
	register(r.Context(), conn)
}

// open is a client's connection that the hub has.
func open(t *testing.T, addr string) *workertest.Client {
	t.Helper()
	c := workertest.Dial(t, addr)
	c.Write("GET", "/", "")
	if line, err := c.Reader.ReadString('\n'); err != nil || line != "hello\n" {
		t.Fatal(line, err)
	}
	return c
}

// The notice comes to a connection whose handler has returned long ago, in whichever way the
// program has asked for it, and a drain cuts nothing.
func TestLeavingOutlivesTheHandlerOfAHijackedConnection(t *testing.T) {
	goodbye := func(conn net.Conn) func() {
		return func() {
			io.WriteString(conn, "goodbye\n")
			conn.Close()
		}
	}
	returned := func(ctx context.Context, do func()) { // what go serve() does, perhaps late
		go func() {
			<-ctx.Done() // the handler has returned
			do()
		}()
	}
	for name, register := range map[string]func(ctx context.Context, conn net.Conn){
		"AfterLeaving in the handler": func(ctx context.Context, conn net.Conn) {
			AfterLeaving(ctx, goodbye(conn))
			returned(ctx, func() { io.WriteString(conn, "hello\n") })
		},
		"AfterLeaving before the connection was taken": nil, // see below
		"AfterLeaving once the handler has returned": func(ctx context.Context, conn net.Conn) {
			returned(ctx, func() {
				AfterLeaving(ctx, goodbye(conn))
				io.WriteString(conn, "hello\n")
			})
		},
		"AfterLeaving by a context of the program's": func(ctx context.Context, conn net.Conn) {
			derived, cancel := context.WithCancel(context.WithValue(ctx, hubKey{}, "x"))
			_ = cancel // at the connection's end
			AfterLeaving(derived, goodbye(conn))
			returned(ctx, func() { io.WriteString(conn, "hello\n") })
		},
		"AfterLeaving without the request's end": func(ctx context.Context, conn net.Conn) {
			AfterLeaving(context.WithoutCancel(ctx), goodbye(conn))
			returned(ctx, func() { io.WriteString(conn, "hello\n") })
		},
		"LeavingContext without the request's end": func(ctx context.Context, conn net.Conn) {
			leaving, cancel := LeavingContext(context.WithoutCancel(ctx))
			returned(ctx, func() {
				defer cancel()
				io.WriteString(conn, "hello\n")
				<-leaving.Done()
				goodbye(conn)()
			})
		},
		"Leaving": func(ctx context.Context, conn net.Conn) {
			returned(ctx, func() {
				io.WriteString(conn, "hello\n")
				<-Leaving(ctx)
				goodbye(conn)()
			})
		},
	} {
		for _, rate := range []bool{false, true} { // which makes other writers
			t.Run(name, func(t *testing.T) {
				var opts []ListenerOption
				if rate {
					opts = append(opts, MinBodyRate(1, workertest.Patience))
				}
				s := newSlot(t, "http")
				w, k := managed(t, func(w *Worker) {
					w.Handle("http", http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
						if register != nil {
							hub(rw, r, register)
							return
						}
						var conn atomic.Pointer[net.Conn]
						AfterLeaving(r.Context(), func() { goodbye(*conn.Load())() })
						hub(rw, r, func(ctx context.Context, c net.Conn) {
							conn.Store(&c)
							returned(ctx, func() { io.WriteString(c, "hello\n") })
						})
					}), opts...)
				})
				k.activate(s)
				c := open(t, s.addr)
				k.park()
				if line, err := c.Reader.ReadString('\n'); err != nil || line != "goodbye\n" {
					t.Errorf("the connection read %q, %v", line, err)
				}
				c.WantEnd(t)
				k.drain(0)
				if stats := k.drained(); stats.Cut != 0 {
					t.Errorf("%d connections were cut", stats.Cut)
				}
				w.wait()
			})
		}
	}
}

type hubKey struct{}

// A connection that is closed leaves no notice behind, nor does one that its program has
// stopped, and what ends by itself is not called.
func TestNoNoticeIsLeftOfAConnection(t *testing.T) {
	s := newSlot(t, "http")
	conns := make(chan net.Conn, 2)
	var called atomic.Int64
	w, k := managed(t, func(w *Worker) {
		waiting := w.core.Traffic.Leaving.Waiting
		w.Handle("http", http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			hub(rw, r, func(ctx context.Context, conn net.Conn) {
				derived, cancel := context.WithCancel(ctx)
				AfterLeaving(derived, func() { called.Add(1) })
				before := waiting()
				cancel() // in the handler: that is not net/http's
				workertest.Eventually(t, "the end of its context stops it", func() bool { return waiting() < before })
				AfterLeaving(ctx, func() { called.Add(1) })
				AfterLeaving(context.WithoutCancel(ctx), func() { called.Add(1) })
				go func() {
					<-ctx.Done()
					for range 3 {
						AfterLeaving(ctx, func() { called.Add(1) })()
					}
					io.WriteString(conn, "hello\n")
					conns <- conn
				}()
			})
		}))
	})
	waiting := w.core.Traffic.Leaving.Waiting
	k.activate(s)
	for range 2 {
		open(t, s.addr)
	}
	workertest.Eventually(t, "only what lasts is waited for", func() bool { return waiting() == 4 })
	workertest.Comes(t, conns).Close()
	workertest.Eventually(t, "a connection's notices go with it", func() bool { return waiting() == 2 })
	workertest.Comes(t, conns).Close()
	workertest.Eventually(t, "no notice is left", func() bool { return waiting() == 0 })
	k.drain(0)
	k.drained()
	w.wait()
	if n := called.Load(); n != 0 {
		t.Errorf("%d were called", n)
	}
}

// The process says goodbye once each time it parks, or drains from being active, and a drain
// waits for it.
func TestOnLeaving(t *testing.T) {
	s := newSlot(t, "http")
	began, goOn := make(chan string), make(chan struct{})
	w, k := managed(t, func(w *Worker) {
		w.Handle("http", workertest.Pong)
		for _, name := range []string{"a", "b"} {
			w.OnLeaving(func() {
				began <- name
				<-goOn
			})
		}
	})
	both := func() {
		t.Helper()
		got := []string{workertest.Comes(t, began), workertest.Comes(t, began)}
		if slices.Sort(got); !slices.Equal(got, []string{"a", "b"}) {
			t.Fatal(got)
		}
	}
	release := func() {
		goOn <- struct{}{}
		goOn <- struct{}{}
	}
	k.activate(s)
	k.park()
	both()
	k.activate()
	k.park() // while what came of the first one has not returned
	release()
	both()
	k.activate()
	release()
	k.drain(0)
	w.leaves()
	both()
	select {
	case <-w.done:
		t.Fatal("the drain has not waited for the goodbye")
	default:
	}
	release()
	k.drained()
	if err := w.wait(); err != nil {
		t.Fatal(err)
	}
}

// Who was never ready has nobody to part from, and one that is parked parts once.
func TestOnLeavingOfAWorkerThatParts(t *testing.T) {
	s := newSlot(t, "http")
	var called atomic.Int64
	w, k := managed(t, func(w *Worker) {
		w.Handle("http", workertest.Pong)
		w.OnLeaving(func() { called.Add(1) })
	})
	k.activate(s)
	k.park()
	k.drain(0)
	k.drained()
	w.wait()
	if n := called.Load(); n != 1 {
		t.Errorf("called %d times", n)
	}

	m := newMaster(t)
	called.Store(0)
	begun := make(chan struct{})
	early := workerWith(t, Options{}, m.env())
	early.Handle("http", workertest.Pong)
	early.OnLeaving(func() { called.Add(1) })
	early.BeforeReady(func(ctx context.Context) error {
		close(begun)
		<-ctx.Done()
		return nil
	})
	r := run(t, early)
	m.accept()
	workertest.Comes(t, begun)
	r.stop()
	r.wait()
	if n := called.Load(); n != 0 {
		t.Errorf("called %d times before it was ready", n)
	}
}
