package listen

import (
	"net"
	"slices"
	"strconv"
	"sync"
	"testing"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/masterd/masterd/pkg/master/config"
	"github.com/masterd/masterd/pkg/master/keeper/keepertest"
)

// A pool grows while clients come: none goes elsewhere, and the new slots are
// assigned, checked and steered to like the others.
func TestPoolGrows(t *testing.T) {
	for name, conf := range takenOver(t) {
		t.Run(name, func(t *testing.T) {
			s := keepertest.New(t)
			w := mustHold(t, s, 4, conf)
			w.host()
			w.man(3, "http")
			w.steer(Share{Slot: 3, Weight: 1})
			addr := w.reachable("http")

			var clients sync.WaitGroup
			stop := make(chan struct{})
			t.Cleanup(clients.Wait)
			for range 2 {
				clients.Go(func() {
					for {
						select {
						case <-stop:
							return
						default:
						}
						if who, err := ask(network(conf), addr); err != nil || who != "3" {
							t.Errorf("while it grows: %q, %v", who, err)
							return
						}
					}
				})
			}
			for _, n := range []int{5, 12, 12, 8, 40} {
				if err := w.Grow(n); err != nil {
					t.Fatal(err)
				}
			}
			close(stop)
			clients.Wait()
			if n := w.Slots(); n != 40 {
				t.Fatalf("%d slots", n)
			}
			if conf.Steering == shared {
				if _, err := w.Man(39, []string{"http"}, 1); err != nil {
					t.Fatal(err)
				}
				return
			}
			if n := len(s.Names()); n != 41 {
				t.Errorf("%d sockets are held", n)
			}
			w.man(39, "http")
			if who, err := w.probe(39, "http"); err != nil || who != "39" {
				t.Errorf("the check of slot 39 got %q, %v", who, err)
			}
			if got := count(t, network(conf), addr, 20); got["3"] != 20 {
				t.Errorf("before the steer: %v", got)
			}
			w.steer(Share{Slot: 39, Weight: 1})
			if got := count(t, network(conf), addr, 20); got["39"] != 20 {
				t.Errorf("after the steer: %v", got)
			}
			w.man(0, "http")
			w.steer(Share{Slot: 0, Weight: 1})
			if got := count(t, network(conf), addr, 20); got["0"] != 20 {
				t.Errorf("to an old slot: %v", got)
			}
			w.steer()
			c, err := net.Dial(network(conf), addr)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			receive(t, "the master's own connection", w.own).Close()
		})
	}
}

// The next master needs fewer slots than were left, with and without workers: a
// pool never shrinks, and so it can be taken over.
func TestPoolOfMoreSlotsIsTakenOver(t *testing.T) {
	for _, kind := range []string{"IPv4", "unix"} {
		conf := addrs(t)[kind]
		t.Run(kind, func(t *testing.T) {
			s := keepertest.New(t)
			first := mustHold(t, s, 4, conf)
			if err := first.Grow(40); err != nil {
				t.Fatal(err)
			}
			first.man(39, "http").stop() // it dies
			first.steer(Share{Slot: 39, Weight: 1})
			addr := first.reachable("http")
			waits, err := net.Dial(network(conf), addr)
			if err != nil {
				t.Fatal(err)
			}
			if err := first.Leave(); err != nil {
				t.Fatal(err)
			}
			next := mustHold(t, s, 4, conf)
			if n := next.Slots(); n != 40 {
				t.Errorf("%d slots", n)
			}
			next.host()
			next.man(0, "http")
			next.steer(Share{Slot: 0, Weight: 1})
			if got := count(t, network(conf), addr, 20); got["0"] != 20 {
				t.Errorf("%v", got)
			}
			if who, err := question(waits); err != nil || who != "orphan" {
				t.Errorf("who had waited got %q, %v", who, err)
			}
		})
	}
}

// keepFunc is a holder that nothing is dropped from.
type keepFunc func(name string, meta []byte, fd int)

func (f keepFunc) Put(name string, meta []byte, fd int) { f(name, meta, fd) }
func (keepFunc) Drop(string)                            {}

// A master dies while its pool grows, between any two of the facts that it has
// told: the next one can take over what there is.
func TestDeathWhilePoolGrows(t *testing.T) {
	conf := tcp("http", "127.0.0.1")
	for dies := range 10 {
		t.Run(strconv.Itoa(dies), func(t *testing.T) {
			s := keepertest.New(t)
			told, growing := 0, false
			set, err := open(Options{Listeners: []config.Listener{conf}, Slots: 4, Keeper: keepFunc(func(name string, meta []byte, fd int) {
				if told++; !growing || told <= dies {
					s.Put(name, meta, fd)
				}
			})}, host())
			if err != nil {
				t.Fatal(err)
			}
			first := &world{Set: set, t: t}
			first.man(1, "http")
			first.steer(Share{Slot: 1, Weight: 1})
			addr := first.reachable("http")
			told, growing = 0, true
			if err := first.Grow(12); err != nil {
				t.Fatal(err)
			}
			if err := first.Leave(); err != nil {
				t.Fatal(err)
			}
			next := mustHold(t, s, 4, conf)
			if err := next.Assigned(1, []string{"http"}, 1); err != nil {
				t.Fatal(err)
			}
			if got := count(t, "tcp", addr, 20); got["1"] != 20 {
				t.Errorf("before the first steer: %v", got)
			}
			if err := next.Grow(12); err != nil {
				t.Fatal(err)
			}
			for _, slot := range []int{0, 5, 11} {
				next.man(slot, "http")
				next.steer(Share{Slot: slot, Weight: 1})
				if got := count(t, "tcp", addr, 20); got[strconv.Itoa(slot)] != 20 {
					t.Errorf("steered to slot %d: %v", slot, got)
				}
			}
		})
	}
}

// A pool that cannot grow is as it was, and can grow later.
func TestPoolThatCannotGrow(t *testing.T) {
	web, path := tcp("web", "127.0.0.1"), onPath("path", t.TempDir()+"/path.sock")
	w := newWorld(t, web, path)
	w.man(3, "web", "path")
	w.steer(Share{Slot: 3, Weight: 1})
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	before := descriptors(t)
	few := limit
	few.Cur = uint64(before + 30)
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &few); err != nil {
		t.Fatal(err)
	}
	err := w.Grow(testSlots + 20)
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	if e := asListenError(t, err); e.Advice == "" {
		t.Errorf("no advice: %v", e)
	}
	if n := descriptors(t); n > before {
		t.Errorf("%d descriptors, %d before", n, before)
	}
	for range 2 {
		if got := count(t, "tcp", w.Addr("web"), 20); got["3"] != 20 {
			t.Error(got)
		}
		if got := count(t, "unix", w.Addr("path"), 20); got["3"] != 20 {
			t.Error(got)
		}
		if err := w.Grow(testSlots + 20); err != nil {
			t.Fatal(err)
		}
	}
	if got := slices.Max([]int{len(w.listeners[0].sockets), len(w.listeners[1].sockets)}); got != testSlots+21 {
		t.Errorf("%d sockets", got)
	}
}

// A pool grows by fewer slots after a call that failed for one of two listeners.
func TestPoolGrowsAfterAHalfFailedCall(t *testing.T) {
	w := newWorld(t, tcp("http", "127.0.0.1"), tcp("admin", "127.0.0.1"))
	w.mu.Lock()
	second := w.listeners[1]
	attach := second.system.attach
	second.system.attach = func(int, []bpf.Instruction) error { return unix.ENOMEM }
	w.mu.Unlock()
	if err := w.Grow(testSlots + 8); err == nil {
		t.Fatal("it grew without a program")
	}
	w.mu.Lock()
	second.system.attach = attach
	w.mu.Unlock()
	for _, n := range []int{testSlots + 4, testSlots + 8, testSlots + 9} {
		if err := w.Grow(n); err != nil {
			t.Fatal(err)
		}
		w.man(n-1, "http", "admin")
		w.steer(Share{Slot: n - 1, Weight: 1})
		for _, name := range []string{"http", "admin"} {
			if who, err := ask("tcp", w.reachable(name)); err != nil || who != strconv.Itoa(n-1) {
				t.Errorf("%s with %d slots: %q, %v", name, n, who, err)
			}
		}
	}
}
