//go:build linux

package worker

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/masterd/masterd/pkg/ipc"
	"github.com/masterd/masterd/pkg/worker/internal/workertest"
)

// What a share is, is tested in internal/migrate. Here is what a worker does that is told of
// one: it goes on as if nobody had.

// done waits until the worker has handled what it was told.
func (k *masterLink) done() {
	k.m.t.Helper()
	k.ask(ipc.Message{Type: ipc.TypeResume}, ipc.TypeAccepting)
}

var all = ipc.Split{Rollout: 5, Weight: ipc.Whole}

// moved waits until so many connections are the new one's.
func (c *couple) moved(n int64) {
	c.t.Helper()
	workertest.Eventually(c.t, "they have moved", func() bool {
		c.toOld.hear()
		c.toNew.hear()
		return c.new.Stats().Open == n
	})
}

func TestAWorkerWhoseShareMovesStaysActive(t *testing.T) {
	var works, left atomic.Int64
	handedOff := make(chan error, 1)
	again := make(chan struct{})
	c := newCouple(t, func(name string, w *Worker) {
		w.OnActive(func(ctx context.Context) {
			works.Add(1)
			<-ctx.Done()
			works.Add(-1)
		})
		w.Handle("http", http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/socket" {
				io.WriteString(rw, name)
				return
			}
			conn, _, err := http.NewResponseController(rw).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			AfterLeaving(r.Context(), func() { left.Add(1) })
			io.WriteString(conn, "hello\n")
			<-again
			handedOff <- w.HandOff(r.Context(), conn, Parcel{Kind: "talk"})
			io.WriteString(conn, "still here\n")
		}))
	})
	c.toNew.activate(newSlot(t, "http"))
	workertest.Eventually(t, "both work", func() bool { return works.Load() == 2 })
	socket := workertest.Dial(t, c.slot.addr)
	socket.Write("GET", "/socket", "")
	if line, err := socket.Reader.ReadString('\n'); err != nil || line != "hello\n" {
		t.Fatal(line, err)
	}
	k := workertest.Dial(t, c.slot.addr)
	k.Want(t, "/", "old", false)
	split(t, c.toOld, c.toNew, all)
	c.moved(1)
	k.Want(t, "/", "new", false)
	if c.old.State() != StateActive || c.old.core.Traffic.Leaving.IsSet() || works.Load() != 2 || left.Load() != 0 {
		t.Errorf("it is %s, leaving %v; %d work, %d were told to leave",
			c.old.State(), c.old.core.Traffic.Leaving.IsSet(), works.Load(), left.Load())
	}
	close(again)
	if err := workertest.Comes(t, handedOff); !errors.Is(err, ErrStays) {
		t.Error(err)
	}
	if line, err := socket.Reader.ReadString('\n'); err != nil || line != "still here\n" {
		t.Error(line, err)
	}
	// A client that comes all the same is served, and not asked to leave.
	c.toOld.send(ipc.Message{Type: ipc.TypeStay})
	c.toOld.done()
	k = workertest.Dial(t, c.slot.addr)
	k.Want(t, "/", "old", false)
	k.Want(t, "/", "old", false)

	// A full give takes the rest, and comes before what makes it necessary, as ever.
	c.switchOver()
	c.moved(2)
	k.Want(t, "/", "new", false)
}

// What neither goes nor is to be kept is asked to leave, as by a worker that has nobody to give
// its connections to.
func TestASplitWorkerThatLeavesAsksThoseThatStay(t *testing.T) {
	c := newCouple(t, named)
	k := workertest.Dial(t, c.slot.addr)
	k.Want(t, "/", "old", false)
	workertest.Dial(t, c.slot.addr) // keeps it draining
	split(t, c.toOld, c.toNew, ipc.Split{Rollout: 5, Weight: 1, Salt: saltThatStays(c)})
	c.toOld.done()
	k.Want(t, "/", "old", false)
	c.old.stop() // a TERM that the master did not send
	workertest.Eventually(t, "it leaves", func() bool { return c.old.State() == StateDraining })
	k.Want(t, "/", "old", true)
}

// saltThatStays has nobody go at the smallest weight: all clients have one address.
func saltThatStays(c *couple) uint32 {
	k := workertest.Dial(c.t, c.slot.addr)
	defer k.Conn.Close()
	for salt := uint32(1); ; salt++ {
		if ipc.StickyHash(salt, addrOf(k)) > 1<<31 {
			return salt
		}
	}
}

// An SDK that knows no shares keeps all, and its master learns so.
func TestWhatIsNotKnownIsRefusedAndStays(t *testing.T) {
	c := newCouple(t, named)
	k := workertest.Dial(t, c.slot.addr)
	k.Want(t, "/", "old", false)
	a, b, err := ipc.Pair()
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(a)
	seq := c.toOld.send(ipc.Message{Type: "split of another kind", Peer: &ipc.Peer{Worker: 2}, Split: &all}, b)
	unix.Close(b)
	if m := c.toOld.recv(ipc.TypeRefused); m.Seq != seq || m.Text == "" {
		t.Errorf("%+v", m)
	}
	if n, _, err := unix.Recvfrom(a, make([]byte, 1), 0); n != 0 {
		t.Errorf("the link is open: %d, %v", n, err)
	}
	k.Want(t, "/", "old", false)
}

// Under a strict load the weight changes a thousand times, in rollouts that go forwards and
// are aborted: no request fails, and nobody is asked to leave.
func TestNoByteIsLostWhileSharesMove(t *testing.T) {
	c := newCouple(t, named)
	c.toNew.activate(newSlot(t, "http"))
	l := newLoad(c.slot.addr)
	share := ipc.Split{Rollout: 1}
	for range 1000 {
		share.Weight += 1 + rand.Uint32N(1000)
		if share.Weight > ipc.Whole {
			// Aborted: what has gone comes back, while the worker is parked that had it.
			c.toOld.send(ipc.Message{Type: ipc.TypeStay})
			give(t, c.toNew, c.toOld)
			c.toNew.park()
			c.toOld.done()
			l.more(t, 1)
			c.toNew.activate()
			share = ipc.Split{Rollout: share.Rollout + 1, Salt: rand.Uint32N(2) * rand.Uint32(), Weight: 100}
		}
		split(t, c.toOld, c.toNew, share)
		c.toOld.done()
		c.toNew.hear()
		l.more(t, 2)
	}
	l.end(t)
	if n := l.bye.Load(); n > 0 {
		t.Errorf("%d answers asked their clients to leave", n)
	}
	if there, back := c.old.core.Sender.Migrated(), c.new.core.Sender.Migrated(); there == 0 || back == 0 {
		t.Errorf("%d connections went, %d came back: that was no test", there, back)
	}
}

// The candidate drains after an abort: all that it was given comes back.
func TestAShareMovesBackFromATakerThatDrains(t *testing.T) {
	c := newCouple(t, named)
	c.toNew.activate(newSlot(t, "http"))
	const n = 100
	var clients []*workertest.Client
	for range n {
		k := workertest.Dial(t, c.slot.addr)
		k.Want(t, "/", "old", false)
		clients = append(clients, k)
	}
	split(t, c.toOld, c.toNew, all)
	c.moved(n)
	for _, k := range clients[:n/2] {
		k.Want(t, "/", "new", false)
	}
	c.toOld.send(ipc.Message{Type: ipc.TypeStay})
	c.toOld.done()
	give(t, c.toNew, c.toOld)
	c.toNew.drain(0)
	c.toNew.drained()
	for _, k := range clients {
		k.Want(t, "/", "old", false)
	}
}

func addrOf(k *workertest.Client) netip.Addr {
	return k.Conn.LocalAddr().(*net.TCPAddr).AddrPort().Addr()
}
