//go:build linux

package worker

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/masterd/masterd/pkg/ipc"
)

// couple is two workers of two generations in one process, under a master's
// hand each: the first has the traffic.
type couple struct {
	t        *testing.T
	old, new *running
	toOld    *masterLink
	toNew    *masterLink
	slot     *slot
}

func newCouple(t *testing.T, setUp func(name string, w *Worker)) *couple {
	t.Helper()
	c := &couple{t: t, slot: newSlot(t, "http")}
	c.old, c.toOld = managed(t, func(w *Worker) { setUp("old", w) })
	c.new, c.toNew = managed(t, func(w *Worker) { setUp("new", w) })
	c.toOld.activate(c.slot)
	return c
}

// named answers with the worker's name.
func named(name string, w *Worker) {
	w.Handle("http", http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		io.WriteString(rw, name+string(b))
	}))
}

// give opens the way from one to the other.
func give(t *testing.T, from, to *masterLink) {
	t.Helper()
	a, b, err := ipc.Pair()
	if err != nil {
		t.Fatal(err)
	}
	to.send(ipc.Message{Type: ipc.TypeTake, Peer: &ipc.Peer{Worker: 1, Generation: 1}}, a)
	from.send(ipc.Message{Type: ipc.TypeGive, Peer: &ipc.Peer{Worker: 2, Generation: 2, Instead: true}}, b)
	unix.Close(a)
	unix.Close(b)
}

// switchOver is what a master does at a switch: the other slot here is none of
// its own, since connections are what this is about.
func (c *couple) switchOver() {
	c.t.Helper()
	c.toNew.activate()
	give(c.t, c.toOld, c.toNew)
	c.toOld.park()
}

func (c *couple) switchBack() {
	c.t.Helper()
	c.toOld.activate()
	give(c.t, c.toNew, c.toOld)
	c.toNew.park()
}

// hasWay: connections of the listener can leave the worker.
func (r *running) hasWay() bool {
	r.handover.mu.Lock()
	defer r.handover.mu.Unlock()
	return r.handover.movable("http")
}

func TestAnIdleConnectionMoves(t *testing.T) {
	c := newCouple(t, named)
	k := dial(t, c.slot.addr)
	k.want(t, "/", "old", false)
	c.switchOver()
	eventually(t, "the connection has moved", func() bool { return c.old.Stats().Open == 0 && c.new.Stats().Open == 1 })
	k.want(t, "/", "new", false)
	c.switchBack()
	eventually(t, "the connection has moved back", func() bool { return c.old.Stats().Open == 1 && c.new.Stats().Open == 0 })
	k.want(t, "/", "old", false)
	for range 20 {
		c.switchOver()
		c.switchBack()
	}
	k.want(t, "/", "old", false)
}

func TestABusyConnectionAnswersFirstAndMovesThen(t *testing.T) {
	release := make(chan struct{})
	c := newCouple(t, func(name string, w *Worker) {
		w.Handle("http", http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/wait" {
				<-release
			}
			io.WriteString(rw, name)
		}))
	})
	k := dial(t, c.slot.addr)
	if err := k.write("GET", "/wait", ""); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the request runs", func() bool { return c.old.Stats().InFlight == 1 })
	c.switchOver()
	eventually(t, "there is a way", func() bool { return c.old.hasWay() })
	close(release)
	if got, closing, err := k.read(); err != nil || got != "old" || closing {
		t.Fatalf("%q, close %v, %v", got, closing, err)
	}
	eventually(t, "it has moved", func() bool { return c.new.Stats().Open == 1 })
	k.want(t, "/", "new", false)
}

func TestAConnectionNeverReadMoves(t *testing.T) {
	c := newCouple(t, named)
	k := dial(t, c.slot.addr)
	eventually(t, "it is accepted", func() bool { return c.old.Stats().Open == 1 })
	c.switchOver()
	eventually(t, "it has moved", func() bool { return c.old.Stats().Open == 0 && c.new.Stats().Open == 1 })
	k.want(t, "/", "new", false)
}

func TestNobodyTakesConnections(t *testing.T) {
	c := newCouple(t, named)
	k := dial(t, c.slot.addr)
	k.want(t, "/", "old", false)
	a, b, err := ipc.Pair()
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(a)
	c.toOld.send(ipc.Message{Type: ipc.TypeGive, Peer: &ipc.Peer{Worker: 2}}, b)
	unix.Close(b)
	eventually(t, "there is a way", c.old.hasWay)
	c.toOld.send(ipc.Message{Type: ipc.TypeStay})
	c.toOld.park()
	eventually(t, "it is closed", func() bool { return !c.old.hasWay() })
	k.want(t, "/", "old", true)
}

// Who leaves itself takes nothing. Its giver will be told another way, or that it
// is active: nobody is asked to leave meanwhile.
func TestATakerThatDrainsTakesNothing(t *testing.T) {
	c := newCouple(t, named)
	k := dial(t, c.slot.addr)
	k.want(t, "/", "old", false)
	c.toNew.activate(newSlot(t, "http"))
	dial(t, c.slot.addr) // keeps it draining
	c.toNew.pass("http", ipc.PurposeServe)
	c.toNew.drain(0)
	eventually(t, "it drains", func() bool { return c.new.State() == StateDraining })
	give(t, c.toOld, c.toNew)
	c.toOld.park()
	eventually(t, "it is known", func() bool {
		return c.old.State() == StateParked && c.old.handover.offered() && !c.old.handover.open.Load()
	})
	k.want(t, "/", "old", false)
	c.toOld.activate()
	k.want(t, "/", "old", false)
}

// offered: something was.
func (h *handover) offered() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.epoch.Load() >= 2 // the way has come, and has stalled
}

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
	k := dial(t, c.slot.addr)
	// The first byte of what comes after the request is read with it.
	io.WriteString(k.c, "GET / HTTP/1.1\r\nHost: x\r\n\r\nH")
	if line, err := k.br.ReadString('\n'); err != nil || line != "hello from old\n" {
		t.Fatal(line, err)
	}
	c.switchOver()
	if err := <-result; err != nil {
		t.Fatal(err)
	}
	io.WriteString(k.c, "ello")
	if line, err := k.br.ReadString('\n'); err != nil || line != "new has seen it and read Hello\n" {
		t.Fatal(line, err)
	}
	k.wantEnd(t)
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
			k := dial(t, c.slot.addr)
			io.WriteString(k.c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
			k.br.ReadString('\n')
			c.switchOver()
			var refused *RefusedError
			if err := <-result; !errors.As(err, &refused) || !strings.Contains(err.Error(), p.Kind) {
				t.Fatal(err)
			}
			if line, err := k.br.ReadString('\n'); err != nil || line != "goodbye\n" {
				t.Fatal(line, err)
			}
			k.wantEnd(t)
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
	k := dial(t, c.slot.addr)
	io.WriteString(k.c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	if err := <-result; !errors.Is(err, ErrStays) {
		t.Fatal(err)
	}
	k.wantEnd(t)
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
	k := dial(t, c.slot.addr)
	io.WriteString(k.c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	k.br.ReadString('\n')
	c.toOld.park()
	if err := <-result; !errors.Is(err, ErrNoSuccessor) {
		t.Fatal(err)
	}
	k.wantEnd(t)
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
	eventually(c.t, "the way is lost", c.old.handover.expecting)
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
			k := dial(t, c.slot.addr)
			io.WriteString(k.c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
			k.br.ReadString('\n')
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
				if err := <-result; err != nil {
					t.Fatal(err)
				}
			} else {
				c.toOld.activate()
				if err := <-result; !errors.Is(err, ErrStays) {
					t.Fatal(err)
				}
			}
			k.wantEnd(t)
		})
	}
}

// Nor is it a reason to ask a client to leave; a master that says nothing of it is one.
func TestAnswersWaitWhenTheirSuccessorDies(t *testing.T) {
	c := newCouple(t, named)
	k := dial(t, c.slot.addr)
	k.want(t, "/", "old", false)
	c.loseSuccessor()
	k.want(t, "/", "old", false)
	h := c.old.handover
	h.mu.Lock()
	h.lost = h.lost.Add(-handOffWait)
	h.mu.Unlock()
	k.want(t, "/", "old", true)
}

func TestAStoppedTakerCostsNothing(t *testing.T) {
	c := newCouple(t, named)
	k := dial(t, c.slot.addr)
	k.want(t, "/", "old", false)
	a, b, err := ipc.Pair() // nobody reads at the other end, as in a process that was stopped
	if err != nil {
		t.Fatal(err)
	}
	c.toOld.send(ipc.Message{Type: ipc.TypeGive, Peer: &ipc.Peer{Worker: 2}}, b)
	unix.Close(b)
	c.toOld.park()
	// Answered here, and not asked to leave: the other side may go on.
	k.want(t, "/", "old", false)
	eventually(t, "the way is stalled", func() bool { return !c.old.handover.open.Load() })
	k.want(t, "/", "old", false)

	// It does go on.
	c.toNew.activate()
	c.toNew.send(ipc.Message{Type: ipc.TypeTake, Peer: &ipc.Peer{Worker: 1}}, a)
	unix.Close(a)
	eventually(t, "the connection has moved", func() bool { return c.old.Stats().Open == 0 && c.new.Stats().Open == 1 })
	k.want(t, "/", "new", false)
}

func TestSendfileWorksOnAMovedConnection(t *testing.T) {
	file := filepath.Join(t.TempDir(), "big")
	if err := os.WriteFile(file, []byte(strings.Repeat("0123456789abcdef", 1<<16)), 0o600); err != nil {
		t.Fatal(err)
	}
	var from [2]bool
	c := newCouple(t, func(name string, w *Worker) {
		w.Handle("http", http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			if _, ok := rw.(io.ReaderFrom); !ok {
				t.Error("no io.ReaderFrom")
			}
			from[0] = name == "new"
			http.ServeFile(rw, r, file)
		}))
	})
	k := dial(t, c.slot.addr)
	if body, _, err := k.do("GET", "/", ""); err != nil || len(body) != 1<<20 {
		t.Fatal(len(body), err)
	}
	c.switchOver()
	eventually(t, "it has moved", func() bool { return c.new.Stats().Open == 1 })
	if body, _, err := k.do("GET", "/", ""); err != nil || len(body) != 1<<20 || !from[0] {
		t.Fatal(len(body), err, from)
	}
}
