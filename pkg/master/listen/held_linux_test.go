package listen

import (
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/masterd/masterd/pkg/master/config"
	"github.com/masterd/masterd/pkg/master/keeper/keepertest"
	"github.com/masterd/masterd/pkg/master/listen/steer"
)

// heldWorld is a world whose sockets are held beside it.
func heldWorld(t *testing.T, s *keepertest.Shelf, slots int, ls ...config.Listener) (*world, error) {
	t.Helper()
	w := &world{t: t, orphans: make(chan net.Conn, 4096), own: make(chan net.Conn, 4096), quiet: make(chan int, 4096)}
	set, err := Open(Options{
		Listeners: ls, Slots: slots, Held: s.All(), Keeper: s,
		Orphan: func(_ config.Listener, fd int) { w.orphans <- connOf(t, fd) },
		Quiet:  func(slot int) { w.quiet <- slot },
		Own:    func(_ config.Listener, c net.Conn) { w.own <- c },
	})
	if err != nil {
		return nil, err
	}
	w.Set = set
	t.Cleanup(func() {
		if err := set.Close(); err != nil {
			t.Error(err)
		}
		w.hosts.Wait()
	})
	return w, nil
}

func mustHold(t *testing.T, s *keepertest.Shelf, slots int, ls ...config.Listener) *world {
	t.Helper()
	w, err := heldWorld(t, s, slots, ls...)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// all are the listeners that can be taken over, with and without slots.
func takenOver(t *testing.T) map[string]config.Listener {
	all := addrs(t)
	one := tcp("http", "127.0.0.1")
	one.Steering = shared
	all["shared"] = one
	path := onPath("http", t.TempDir()+"/shared.sock")
	path.Steering = shared
	all["shared path"] = path
	return all
}

// The next master takes the sockets over while connections are made: none is
// lost, none goes elsewhere, and then it steers.
func TestSocketsAreTakenOver(t *testing.T) {
	for name, conf := range takenOver(t) {
		t.Run(name, func(t *testing.T) {
			s := keepertest.New(t)
			first := mustHold(t, s, testSlots, conf)
			worker := first.man(3, "http")
			first.steer(Share{Slot: 3, Weight: 1})
			addr := first.reachable("http")
			if err := first.Leave(); err != nil {
				t.Fatal(err)
			}
			if got := count(t, network(conf), addr, 50); got["3"] != 50 {
				t.Fatalf("with no master: %v", got)
			}

			next := mustHold(t, s, testSlots, conf)
			if got := next.reachable("http"); got != addr {
				t.Fatalf("it listens on %s and not on %s", got, addr)
			}
			if err := next.Assigned(3, []string{"http"}, testGeneration); err != nil {
				t.Fatal(err)
			}
			if got := count(t, network(conf), addr, 50); got["3"] != 50 {
				t.Fatalf("before the first steer: %v", got)
			}
			if who, err := next.probe(3, "http"); err != nil || who != "3" {
				t.Fatalf("the check of slot 3 got %q, %v", who, err)
			}
			next.steer(Share{Slot: 3, Weight: 1})
			if conf.Steering == shared {
				worker.stop()
			}
			next.man(5, "http")
			next.steer(Share{Slot: 5, Weight: 1})
			if got := count(t, network(conf), addr, 50); got["5"] != 50 {
				t.Fatalf("after the steer: %v", got)
			}
			if st := next.Status(); len(st) != 1 || st[0].Drift != 0 {
				t.Errorf("status: %+v", st)
			}
		})
	}
}

// What waits in a queue while no master is there is served.
func TestQueueOutlivesTheMaster(t *testing.T) {
	for _, kind := range []string{"IPv4", "unix"} {
		conf := addrs(t)[kind]
		t.Run(kind, func(t *testing.T) {
			s := keepertest.New(t)
			first := mustHold(t, s, testSlots, conf)
			addr := first.reachable("http")
			var clients []net.Conn
			for range 50 { // nobody was steered to yet
				c, err := net.Dial(network(conf), addr)
				if err != nil {
					t.Fatal(err)
				}
				clients = append(clients, c)
				if len(clients) == 25 {
					if err := first.Leave(); err != nil {
						t.Fatal(err)
					}
				}
			}
			next := mustHold(t, s, testSlots, conf)
			next.host()
			next.man(0, "http")
			next.steer(Share{Slot: 0, Weight: 1})
			for _, c := range clients {
				if who, err := question(c); err != nil || who != "orphan" {
					t.Fatalf("%q, %v", who, err)
				}
			}
			eventually(t, "all is quiet", func() bool { return len(next.own) == 0 })
		})
	}
}

// Slots that were shut down have changed the kernel's array, before the master
// died or while there was none.
func TestOrderIsTakenOver(t *testing.T) {
	s := keepertest.New(t)
	conf := tcp("http", "127.0.0.1")
	first := mustHold(t, s, testSlots, conf)
	var down []int
	for slot := range 6 {
		first.man(slot, "http")
		down = append(down, first.listeners[0].sockets[slot].fd)
	}
	first.steer(Share{Slot: 0, Weight: 1})
	var copies []int
	for _, fd := range down {
		n, err := duplicate(fd)
		if err != nil {
			t.Fatal(err)
		}
		defer closeFD(n)
		copies = append(copies, n)
	}
	for _, slot := range []int{1, 4} {
		if err := unix.Shutdown(copies[slot], unix.SHUT_RD); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the drift is seen", func() bool { return first.Status()[0].Drift == 2 })
	addr := first.reachable("http")
	if err := first.Leave(); err != nil {
		t.Fatal(err)
	}
	if err := unix.Shutdown(copies[2], unix.SHUT_RD); err != nil {
		t.Fatal(err)
	}
	next := mustHold(t, s, testSlots, conf)
	for _, slot := range []int{0, 3, 5} { // the others' Go listeners have ended with their sockets
		if err := next.Assigned(slot, []string{"http"}, testGeneration); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the drift is seen", func() bool { return next.Status()[0].Drift == 1 })
	for _, slot := range []int{1, 2, 4} {
		next.man(slot, "http")
	}
	for slot := range 6 {
		next.steer(Share{Slot: slot, Weight: 1})
		if got := count(t, "tcp", addr, 20); got[strconv.Itoa(slot)] != 20 {
			t.Errorf("steered to slot %d: %v", slot, got)
		}
		if who, err := next.probe(slot, "http"); err != nil || who != strconv.Itoa(slot) {
			t.Errorf("the check of slot %d got %q, %v", slot, who, err)
		}
	}
}

// A pool that must be greater than the one that was left.
func TestPoolGrowsAtATakeover(t *testing.T) {
	for _, kind := range []string{"IPv4", "unix"} {
		conf := addrs(t)[kind]
		t.Run(kind, func(t *testing.T) {
			s := keepertest.New(t)
			first := mustHold(t, s, 4, conf)
			first.man(3, "http")
			first.steer(Share{Slot: 3, Weight: 1})
			addr := first.reachable("http")
			if err := first.Leave(); err != nil {
				t.Fatal(err)
			}
			next := mustHold(t, s, 8, conf)
			if err := next.Assigned(3, []string{"http"}, testGeneration); err != nil {
				t.Fatal(err)
			}
			next.steer(Share{Slot: 3, Weight: 1})
			next.man(7, "http")
			if got := count(t, network(conf), addr, 20); got["3"] != 20 {
				t.Fatal(got)
			}
			next.steer(Share{Slot: 7, Weight: 1})
			if got := count(t, network(conf), addr, 20); got["7"] != 20 {
				t.Fatal(got)
			}
			if got := len(s.Names()); got != 9 {
				t.Errorf("%d sockets are held: %v", got, s.Names())
			}
		})
	}
}

// What cannot be taken over is left alone: who serves goes on.
func TestTakeoverThatCannotBe(t *testing.T) {
	conf := tcp("http", "127.0.0.1")
	own := heldName(conf, heldOwn)
	for name, spoil := range map[string]func(*keepertest.Shelf){
		"no order":                 func(s *keepertest.Shelf) { respoil(s, own, `{"steering":"kernel","order":[0,0,1]}`) },
		"an order of others":       func(s *keepertest.Shelf) { respoil(s, own, `{"steering":"kernel","order":[99]}`) },
		"an order of none":         func(s *keepertest.Shelf) { respoil(s, own, `{"steering":"kernel","order":[-1]}`) },
		"an order with a stranger": func(s *keepertest.Shelf) { respoil(s, own, `{"steering":"kernel","order":[-7]}`) },
		"no words":                 func(s *keepertest.Shelf) { respoil(s, own, "") },
		"a later way to steer":     func(s *keepertest.Shelf) { respoil(s, own, `{"steering":"ebpf"}`) },
		"another family": func(s *keepertest.Shelf) {
			fd, err := steer.Stream(unix.AF_UNIX)
			if err != nil {
				t.Fatal(err)
			}
			defer closeFD(fd)
			s.Lose(heldName(conf, "2"))
			s.Hold(heldName(conf, "2"), nil, fd)
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := keepertest.New(t)
			first := mustHold(t, s, testSlots, conf)
			worker := first.man(1, "http")
			first.steer(Share{Slot: 1, Weight: 1})
			addr := first.reachable("http")
			if err := first.Leave(); err != nil {
				t.Fatal(err)
			}
			spoil(s)
			left := s.Names()
			before := descriptors(t)
			if next, err := heldWorld(t, s, testSlots, conf); err == nil {
				next.Leave()
				t.Fatal("it was taken over")
			} else {
				asListenError(t, err)
			}
			eventually(t, "no descriptor is left", func() bool { return descriptors(t) <= before })
			if got := count(t, "tcp", addr, 20); got["1"] != 20 {
				t.Error(got)
			}
			if !slices.Equal(s.Names(), left) {
				t.Errorf("%v are held, of %v", s.Names(), left)
			}

			// Nobody lives: it is opened anew.
			worker.stop()
			_, port, err := net.SplitHostPort(addr)
			if err != nil {
				t.Fatal(err)
			}
			again := conf
			if again.Port, err = strconv.Atoi(port); err != nil {
				t.Fatal(err)
			}
			for _, was := range left { // they are called by the port that was asked for
				h, _ := s.Of(was)
				s.Hold(strings.Replace(was, ":0", ":"+port, 1), h.Meta, h.FD)
				s.Lose(was)
			}
			set, err := Open(Options{Listeners: []config.Listener{again}, Slots: testSlots, Held: s.All(), Keeper: s, Deserted: true})
			if err != nil {
				t.Fatal(err)
			}
			next := &world{Set: set, t: t}
			defer set.Close()
			next.man(0, "http")
			next.steer(Share{Slot: 0, Weight: 1})
			if got := count(t, "tcp", addr, 20); got["0"] != 20 {
				t.Error(got)
			}
			if got := len(s.Names()); got != set.Slots()+1 {
				t.Errorf("%d sockets are held for %d slots", got, set.Slots())
			}
			if st := next.Status(); st[0].Steering != kernel {
				t.Errorf("%+v", st)
			}
		})
	}
}

func respoil(s *keepertest.Shelf, name, meta string) {
	h, _ := s.Of(name)
	fd, _ := duplicate(h.FD)
	defer closeFD(fd)
	s.Lose(name)
	s.Hold(name, []byte(meta), fd)
}

func descriptors(t *testing.T) int {
	t.Helper()
	all, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(all)
}

// What is held follows what there is.
func TestHeldIsWhatThereIs(t *testing.T) {
	s := keepertest.New(t)
	dir := t.TempDir()
	web, admin := tcp("web", "127.0.0.1"), onPath("admin", filepath.Join(dir, "a.sock"))
	w := mustHold(t, s, 4, web)
	if err := w.Add([]config.Listener{web, admin}); err != nil {
		t.Fatal(err)
	}
	of := func(name string) (n int) {
		for _, h := range s.Names() {
			if strings.HasPrefix(h, HeldPrefix+name+"/") {
				n++
			}
		}
		return n
	}
	if of("web") != 5 || of("admin") != 5 {
		t.Fatal(s.Names())
	}
	s.Check() // another keeper can be given them
	// A Unix slot that was shut down is another socket when it is assigned again.
	files, err := w.Man(2, []string{"admin"}, testGeneration)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Shutdown(files[0].FD, unix.SHUT_RDWR); err != nil {
		t.Fatal(err)
	}
	closeFD(files[0].FD)
	drift := func() uint64 { return w.Status()[1].Drift }
	eventually(t, "it is seen", func() bool { return drift() == 1 })
	w.man(2, "admin")
	s.Check()
	held, _ := s.Of(heldName(admin, "2"))
	w.mu.Lock()
	same := steer.Inode(held.FD) == w.listeners[1].sockets[2].inode
	w.mu.Unlock()
	if !same {
		t.Error("the socket that is held is not the one that is there")
	}
	w.Retain([]config.Listener{web})
	if of("web") != 5 || of("admin") != 0 {
		t.Error(s.Names())
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if left := s.Names(); len(left) > 0 {
		t.Error(left)
	}
}

// What no listener needs is let go at a takeover.
func TestNeedlessSocketsAreLetGo(t *testing.T) {
	s := keepertest.New(t)
	web, other := tcp("web", "127.0.0.1"), tcp("other", "127.0.0.1")
	first := mustHold(t, s, 4, web, other)
	addr := first.reachable("other")
	if err := first.Leave(); err != nil {
		t.Fatal(err)
	}
	mustHold(t, s, 4, web)
	if got := s.Names(); len(got) != 5 {
		t.Error(got)
	}
	if c, err := net.Dial("tcp", addr); err == nil {
		c.Close()
		t.Error("somebody listens still")
	}
}
