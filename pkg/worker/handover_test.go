//go:build linux

package worker

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/masterd/masterd/pkg/ipc"
	"github.com/masterd/masterd/pkg/worker/internal/workertest"
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
	connect(t, from, to, ipc.Message{Type: ipc.TypeGive})
}

// split opens it for a share of the connections.
func split(t *testing.T, from, to *masterLink, share ipc.Split) {
	t.Helper()
	connect(t, from, to, ipc.Message{Type: ipc.TypeSplit, Split: &share})
}

func connect(t *testing.T, from, to *masterLink, how ipc.Message) {
	t.Helper()
	a, b, err := ipc.Pair()
	if err != nil {
		t.Fatal(err)
	}
	to.send(ipc.Message{Type: ipc.TypeTake, Peer: &ipc.Peer{Worker: 1, Generation: 1}}, a)
	how.Peer = &ipc.Peer{Worker: 2, Generation: 2, Instead: true}
	from.send(how, b)
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
func (r *running) hasWay() bool { return len(r.core.Sender.PeerIDs()) > 0 }

func TestAnIdleConnectionMoves(t *testing.T) {
	c := newCouple(t, named)
	k := workertest.Dial(t, c.slot.addr)
	k.Want(t, "/", "old", false)
	c.switchOver()
	workertest.Eventually(t, "the connection has moved", func() bool { return c.old.Stats().Open == 0 && c.new.Stats().Open == 1 })
	k.Want(t, "/", "new", false)
	c.switchBack()
	workertest.Eventually(t, "the connection has moved back", func() bool { return c.old.Stats().Open == 1 && c.new.Stats().Open == 0 })
	k.Want(t, "/", "old", false)
	for range 20 {
		c.switchOver()
		c.switchBack()
	}
	k.Want(t, "/", "old", false)
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
	k := workertest.Dial(t, c.slot.addr)
	if err := k.Write("GET", "/wait", ""); err != nil {
		t.Fatal(err)
	}
	workertest.Eventually(t, "the request runs", func() bool { return c.old.Stats().InFlight == 1 })
	c.switchOver()
	workertest.Eventually(t, "there is a way", func() bool { return c.old.hasWay() })
	close(release)
	if got, closing, err := k.Read(); err != nil || got != "old" || closing {
		t.Fatalf("%q, close %v, %v", got, closing, err)
	}
	workertest.Eventually(t, "it has moved", func() bool { return c.new.Stats().Open == 1 })
	k.Want(t, "/", "new", false)
}

func TestAConnectionNeverReadMoves(t *testing.T) {
	c := newCouple(t, named)
	k := workertest.Dial(t, c.slot.addr)
	workertest.Eventually(t, "it is accepted", func() bool { return c.old.Stats().Open == 1 })
	c.switchOver()
	workertest.Eventually(t, "it has moved", func() bool { return c.old.Stats().Open == 0 && c.new.Stats().Open == 1 })
	k.Want(t, "/", "new", false)
}

func TestNobodyTakesConnections(t *testing.T) {
	c := newCouple(t, named)
	k := workertest.Dial(t, c.slot.addr)
	k.Want(t, "/", "old", false)
	a, b, err := ipc.Pair()
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(a)
	c.toOld.send(ipc.Message{Type: ipc.TypeGive, Peer: &ipc.Peer{Worker: 2}}, b)
	unix.Close(b)
	workertest.Eventually(t, "there is a way", c.old.hasWay)
	c.toOld.send(ipc.Message{Type: ipc.TypeStay})
	c.toOld.park()
	workertest.Eventually(t, "it is closed", func() bool { return !c.old.hasWay() })
	k.Want(t, "/", "old", true)
}

// Who leaves itself takes nothing. Its giver will be told another way, or that it
// is active: nobody is asked to leave meanwhile.
func TestATakerThatDrainsTakesNothing(t *testing.T) {
	c := newCouple(t, named)
	k := workertest.Dial(t, c.slot.addr)
	k.Want(t, "/", "old", false)
	c.toNew.activate(newSlot(t, "http"))
	workertest.Dial(t, c.slot.addr) // keeps it draining
	c.toNew.pass("http", ipc.PurposeServe)
	c.toNew.drain(0)
	workertest.Eventually(t, "it drains", func() bool { return c.new.State() == StateDraining })
	give(t, c.toOld, c.toNew)
	c.toOld.park()
	workertest.Eventually(t, "it is known", func() bool {
		return c.old.State() == StateParked && c.old.hasWay() && !c.old.core.Sender.Ready()
	})
	k.Want(t, "/", "old", false)
	c.toOld.activate()
	k.Want(t, "/", "old", false)
}

func TestAStoppedTakerCostsNothing(t *testing.T) {
	c := newCouple(t, named)
	k := workertest.Dial(t, c.slot.addr)
	k.Want(t, "/", "old", false)
	a, b, err := ipc.Pair() // nobody reads at the other end, as in a process that was stopped
	if err != nil {
		t.Fatal(err)
	}
	c.toOld.send(ipc.Message{Type: ipc.TypeGive, Peer: &ipc.Peer{Worker: 2}}, b)
	unix.Close(b)
	c.toOld.park()
	// Answered here, and not asked to leave: the other side may go on.
	k.Want(t, "/", "old", false)
	workertest.Eventually(t, "the way is stalled", func() bool { return !c.old.core.Sender.Ready() })
	k.Want(t, "/", "old", false)

	// It does go on.
	c.toNew.activate()
	c.toNew.send(ipc.Message{Type: ipc.TypeTake, Peer: &ipc.Peer{Worker: 1}}, a)
	unix.Close(a)
	workertest.Eventually(t, "the connection has moved", func() bool { return c.old.Stats().Open == 0 && c.new.Stats().Open == 1 })
	k.Want(t, "/", "new", false)
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
	k := workertest.Dial(t, c.slot.addr)
	if body, _, err := k.Do("GET", "/", ""); err != nil || len(body) != 1<<20 {
		t.Fatal(len(body), err)
	}
	c.switchOver()
	workertest.Eventually(t, "it has moved", func() bool { return c.new.Stats().Open == 1 })
	if body, _, err := k.Do("GET", "/", ""); err != nil || len(body) != 1<<20 || !from[0] {
		t.Fatal(len(body), err, from)
	}
}
