//go:build linux

package worker

import (
	"errors"
	"net"
	"slices"
	"syscall"
	"testing"

	"github.com/masterd/masterd/pkg/ipc"
	"github.com/masterd/masterd/pkg/worker/internal/workertest"
)

// dialAs dials from one of the loopback's addresses.
func dialAs(t *testing.T, from, addr string) *workertest.Client {
	t.Helper()
	c, err := tryAs(t, from, addr)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func tryAs(t *testing.T, from, addr string) (*workertest.Client, error) {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: workertest.Patience}
	c, err := d.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { c.Close() })
	return workertest.On(c), nil
}

const attacker = "127.0.0.2"

// refusedAs wants a connection to be reset, which may be before the dial has returned.
func refusedAs(t *testing.T, from, addr string) {
	t.Helper()
	c, err := tryAs(t, from, addr)
	if err == nil {
		_, err = c.Reader.ReadByte()
	}
	if !errors.Is(err, syscall.ECONNRESET) {
		t.Fatalf("got %v, wanted a reset", err)
	}
}

// One address that opens connection after connection has as many as it may, and
// costs others nothing.
func TestOneAddressOpensManyConnections(t *testing.T) {
	const most, tries = 5, 300
	s := newSlot(t, "http")
	_, k := managed(t, func(w *Worker) { w.Handle("http", workertest.Pong, MaxConns(most+10), MaxConnsPerAddress(most)) })
	k.activate(s)
	var held []*workertest.Client
	for i := range tries {
		if i < most {
			c := dialAs(t, attacker, s.addr)
			c.Want(t, "/", "pong", false)
			held = append(held, c)
		} else {
			refusedAs(t, attacker, s.addr)
		}
		if i%10 == 0 {
			other := workertest.Dial(t, s.addr)
			other.Want(t, "/", "pong", false)
			other.Conn.Close()
		}
	}
	k.wait("its connections", func(n ipc.Stats) bool { return n.Refused == tries-most && n.Open == most })
	held[0].Conn.Close()
	k.wait("one less", func(n ipc.Stats) bool { return n.Open == most-1 })
	dialAs(t, attacker, s.addr).Want(t, "/", "pong", false)
	refusedAs(t, attacker, s.addr)
	held[1].Want(t, "/", "pong", false) // who is in stays in
}

// Over the listener's bound nobody is refused: they wait, and a drain serves them.
func TestAFullListenerHasOthersWait(t *testing.T) {
	const most, more = 3, 4
	s := newSlot(t, "http")
	w, k := managed(t, func(w *Worker) { w.Handle("http", workertest.Pong, MaxConns(most)) })
	k.activate(s)
	var all []*workertest.Client
	for range most {
		c := workertest.Dial(t, s.addr)
		c.Want(t, "/", "pong", false)
		all = append(all, c)
	}
	for range more {
		c := workertest.Dial(t, s.addr)
		c.Write("GET", "/", "")
		all = append(all, c)
	}
	k.wait("a beat later", func(n ipc.Stats) bool { return n.Open == most })
	if n := s.queued(t); n != more {
		t.Fatalf("%d wait in the queue, wanted %d", n, more)
	}
	all[0].Conn.Close()
	if got, _, err := all[most].Read(); got != "pong" || err != nil {
		t.Fatalf("who waited longest: %q, %v", got, err)
	}
	if n := s.queued(t); n != more-1 || w.Stats().Open != most {
		t.Fatalf("%d wait in the queue, %+v", n, w.Stats())
	}
	k.park() // which does not wait for room
	k.drain(0)
	for _, c := range all[most+1:] {
		if got, closing, err := c.Read(); got != "pong" || !closing || err != nil {
			t.Errorf("who waited when the drain came: %q, close %v, %v", got, closing, err)
		}
	}
	for _, c := range all[1 : most+1] {
		c.Want(t, "/", "pong", true)
	}
	if n := k.drained(); n.Cut != 0 || n.Refused != 0 || n.Accepted != most+more {
		t.Errorf("%+v", n)
	}
	w.wait()
}

// Connections that move are counted where they are, whatever the bounds of the
// new worker say, and none is closed.
func TestCapsWhileIdleConnectionsMove(t *testing.T) {
	const most, perAddress = 8, 4
	c := newCouple(t, func(name string, w *Worker) {
		named(name, w)
		MaxConns(most)(w.listeners[0])
		MaxConnsPerAddress(perAddress)(w.listeners[0])
	})
	other := newSlot(t, "http") // what the new one accepts from
	c.toNew.activate(other)
	open := func(what string, n ...int64) {
		t.Helper()
		workertest.Eventually(t, what, func() bool { return slices.Contains(n, c.new.Stats().Open) })
	}
	get := func(addr string) *workertest.Client {
		t.Helper()
		k := dialAs(t, attacker, addr)
		k.Write("GET", "/", "")
		if _, closing, err := k.Read(); closing || err != nil {
			t.Fatalf("close %v, %v", closing, err)
		}
		return k
	}
	var moving, fresh []*workertest.Client
	for range perAddress {
		moving, fresh = append(moving, get(c.slot.addr)), append(fresh, get(other.addr))
	}
	refusedAs(t, attacker, other.addr)
	c.switchOver()
	open("all have moved", 2*perAddress)
	// The old one, which they have left, is empty: as many again get in, and move.
	for range perAddress {
		moving = append(moving, get(c.slot.addr))
	}
	open("those have moved", 3*perAddress)
	workertest.Eventually(t, "none is left in the old worker", func() bool { return c.old.Stats().Open == 0 })
	for _, k := range append(moving, fresh...) {
		k.Want(t, "/", "new", false)
	}
	// The new one is beyond its bound: but for one that its acceptor may have been
	// waiting for before, who comes waits.
	var waiting []*workertest.Client
	for range 3 {
		k := workertest.Dial(t, other.addr)
		k.Write("GET", "/", "")
		waiting = append(waiting, k)
	}
	for _, k := range fresh {
		k.Conn.Close()
	}
	open("still more than it may", 2*perAddress, 2*perAddress+1)
	if n := other.queued(t); n < 2 {
		t.Fatalf("%d wait, wanted 2 at least", n)
	}
	for _, k := range moving[2:] {
		k.Conn.Close()
	}
	for _, k := range waiting {
		if got, _, err := k.Read(); got != "new" || err != nil {
			t.Fatalf("who waited: %q, %v", got, err)
		}
	}
	open("two that moved, and the three", 5)
	all := append(moving[:2], waiting...)
	all = append(all, get(other.addr), get(other.addr))
	refusedAs(t, attacker, other.addr) // what moved counts for its address
	c.switchBack()
	workertest.Eventually(t, "all are back", func() bool { return c.new.Stats().Open == 0 && c.old.Stats().Open == most-1 })
	for _, k := range all {
		k.Want(t, "/", "old", false)
	}
	if n := c.old.Stats().Refused + c.new.Stats().Refused; n != 2 {
		t.Errorf("%d were refused, wanted 2", n)
	}
}

// The limits count for servers of the program's own as well.
func TestCapsOfServersOfTheProgramsOwn(t *testing.T) {
	addr := freeAddress(t)
	w := workerWith(t, Options{}, nil)
	w.Serve("lines", (&makeLines{}).make, Address(addr), MaxConns(2), MaxConnsPerAddress(1))
	r := run(t, w)
	workertest.Eventually(t, "it serves", func() bool { return w.State() == StateActive })
	a := call(t, addr)
	a.wants(t, 1)
	refusedAs(t, "127.0.0.1", addr)
	b := dialAs(t, attacker, addr)
	b.Conn.Write([]byte("x\n"))
	workertest.Eventually(t, "both are in", func() bool { return w.Stats().Open == 2 })
	b.Conn.Close()
	a.c.Close()
	workertest.Eventually(t, "both are out", func() bool { return w.Stats().Open == 0 })
	call(t, addr).wants(t, 1)
	r.stop()
}
