//go:build linux

package worker

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/masterd/masterd/pkg/ipc"
	"github.com/masterd/masterd/pkg/worker/internal/workertest"
)

func TestHandOff(t *testing.T) {
	result := make(chan error, 1)
	c := newCouple(t, func(name string, w *Worker) {
		w.Handle("http", http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			conn, buf, err := http.NewResponseController(rw).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			io.WriteString(conn, "hello from "+name+"\n")
			<-Leaving(r.Context())
			unread, _ := buf.Reader.Peek(buf.Reader.Buffered())
			result <- w.HandOff(r.Context(), conn, Parcel{Kind: "talk", Version: 1, State: []byte("seen it"), Unread: unread})
		}))
		w.Receive("talk", []int{1, 2}, func(ctx context.Context, conn net.Conn, p Parcel) {
			line := make([]byte, 5)
			if _, err := io.ReadFull(conn, line); err != nil {
				t.Error(err)
			}
			io.WriteString(conn, name+" has "+string(p.State)+" and read "+string(line)+"\n")
		})
	})
	k := workertest.Dial(t, c.slot.addr)
	// The first byte of what comes after the request is read with it.
	io.WriteString(k.Conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\nH")
	if line, err := k.Reader.ReadString('\n'); err != nil || line != "hello from old\n" {
		t.Fatal(line, err)
	}
	c.switchOver()
	if err := workertest.Comes(t, result); err != nil {
		t.Fatal(err)
	}
	io.WriteString(k.Conn, "ello")
	if line, err := k.Reader.ReadString('\n'); err != nil || line != "new has seen it and read Hello\n" {
		t.Fatal(line, err)
	}
	k.WantEnd(t)
}

func TestHandOffIsRefused(t *testing.T) {
	for name, p := range map[string]Parcel{
		"unknown kind":    {Kind: "song", Version: 1},
		"unknown version": {Kind: "talk", Version: 3},
	} {
		t.Run(name, func(t *testing.T) {
			result := make(chan error, 1)
			c := newCouple(t, func(name string, w *Worker) {
				w.Handle("http", http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
					conn, _, err := http.NewResponseController(rw).Hijack()
					if err != nil {
						t.Error(err)
						return
					}
					defer conn.Close()
					io.WriteString(conn, "hello\n")
					<-Leaving(r.Context())
					result <- w.HandOff(r.Context(), conn, p)
					io.WriteString(conn, "goodbye\n")
				}))
				w.Receive("talk", []int{1, 2}, func(context.Context, net.Conn, Parcel) { t.Error("received") })
			})
			k := workertest.Dial(t, c.slot.addr)
			io.WriteString(k.Conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
			k.Reader.ReadString('\n')
			c.switchOver()
			var refused *RefusedError
			if err := workertest.Comes(t, result); !errors.As(err, &refused) || !strings.Contains(err.Error(), p.Kind) {
				t.Fatal(err)
			}
			if line, err := k.Reader.ReadString('\n'); err != nil || line != "goodbye\n" {
				t.Fatal(line, err)
			}
			k.WantEnd(t)
		})
	}
}

func TestHandOffOfAnActiveWorkerStays(t *testing.T) {
	result := make(chan error, 1)
	c := newCouple(t, func(name string, w *Worker) {
		w.Handle("http", http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			conn, _, _ := http.NewResponseController(rw).Hijack()
			defer conn.Close()
			result <- w.HandOff(r.Context(), conn, Parcel{Kind: "talk"})
		}))
	})
	k := workertest.Dial(t, c.slot.addr)
	io.WriteString(k.Conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	if err := workertest.Comes(t, result); !errors.Is(err, ErrStays) {
		t.Fatal(err)
	}
	k.WantEnd(t)
}

func TestHandOffWithoutASuccessor(t *testing.T) {
	result := make(chan error, 1)
	c := newCouple(t, func(name string, w *Worker) {
		w.Handle("http", http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			conn, _, _ := http.NewResponseController(rw).Hijack()
			defer conn.Close()
			io.WriteString(conn, "hello\n")
			<-Leaving(r.Context())
			result <- w.HandOff(r.Context(), conn, Parcel{Kind: "talk"})
		}))
	})
	k := workertest.Dial(t, c.slot.addr)
	io.WriteString(k.Conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	k.Reader.ReadString('\n')
	c.toOld.park()
	if err := workertest.Comes(t, result); !errors.Is(err, ErrNoSuccessor) {
		t.Fatal(err)
	}
	k.WantEnd(t)
}

// loseSuccessor parks the old one with a way to somebody who then dies.
func (c *couple) loseSuccessor() {
	c.t.Helper()
	a, b, err := ipc.Pair()
	if err != nil {
		c.t.Fatal(err)
	}
	c.toOld.send(ipc.Message{Type: ipc.TypeGive, Peer: &ipc.Peer{Worker: 2}}, b)
	unix.Close(b)
	c.toOld.park()
	unix.Close(a)
	workertest.Eventually(c.t, "the way is lost", func() bool { return !c.old.hasWay() })
}

// A successor that dies is no answer yet: the master gives the traffic back, or
// opens a way to another.
func TestHandOffWaitsWhenItsSuccessorDies(t *testing.T) {
	for _, next := range []string{"the traffic comes back", "another successor"} {
		t.Run(next, func(t *testing.T) {
			begin, result := make(chan struct{}), make(chan error, 1)
			c := newCouple(t, func(name string, w *Worker) {
				w.Handle("http", http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
					conn, _, _ := http.NewResponseController(rw).Hijack()
					defer conn.Close()
					io.WriteString(conn, "hello\n")
					<-begin
					result <- w.HandOff(context.Background(), conn, Parcel{Kind: "talk"})
				}))
				w.Receive("talk", []int{0}, func(_ context.Context, conn net.Conn, _ Parcel) {})
			})
			k := workertest.Dial(t, c.slot.addr)
			io.WriteString(k.Conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
			k.Reader.ReadString('\n')
			c.loseSuccessor()
			close(begin)
			select {
			case err := <-result:
				t.Fatal("it has not waited: ", err)
			case <-time.After(50 * time.Millisecond):
			}
			if next == "another successor" {
				c.toNew.activate()
				give(t, c.toOld, c.toNew)
				if err := workertest.Comes(t, result); err != nil {
					t.Fatal(err)
				}
			} else {
				c.toOld.activate()
				if err := workertest.Comes(t, result); !errors.Is(err, ErrStays) {
					t.Fatal(err)
				}
			}
			k.WantEnd(t)
		})
	}
}

// Nor is it a reason to ask a client to leave; a master that says nothing of it is one.
func TestAnswersWaitWhenTheirSuccessorDies(t *testing.T) {
	c := newCouple(t, named)
	k := workertest.Dial(t, c.slot.addr)
	k.Want(t, "/", "old", false)
	c.loseSuccessor()
	k.Want(t, "/", "old", false)
	workertest.Eventually(t, "nothing is awaited any more", func() bool { return c.old.core.Sender.ShouldClose("http") })
	k.Want(t, "/", "old", true)
}
