package listen

import (
	"errors"
	"net"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/masterd/masterd/pkg/master/config"
	"github.com/masterd/masterd/pkg/master/keeper/keepertest"
	"github.com/masterd/masterd/pkg/master/listen/steer"
)

// leftover is what a worker has left behind: it keeps a slot's socket.
func leftover(t *testing.T, files []File) int {
	t.Helper()
	fd, err := duplicate(files[0].FD)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		closeFD(f.FD)
	}
	t.Cleanup(func() { closeFD(fd) })
	return fd
}

// A slot that changes hands gets a socket that nobody has: whoever has kept the one
// before accepts nothing more, and no other slot is moved by it.
func TestChangedSlotIsFresh(t *testing.T) {
	for name, conf := range addrs(t) {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, conf)
			w.man(0, "http")
			w.man(2, "http")
			w.steer(Share{Slot: 0, Weight: 1})
			for generation := range uint64(5) {
				files, err := w.Man(1, []string{"http"}, 100+generation)
				if err != nil {
					t.Fatal(err)
				}
				kept := leftover(t, files)
				var took atomic.Int64
				var ends sync.WaitGroup
				stop := make(chan struct{})
				ends.Go(func() {
					for {
						if fd, _, err := unix.Accept4(kept, unix.SOCK_CLOEXEC); err == nil {
							took.Add(1)
							closeFD(fd)
						}
						select {
						case <-stop:
							return
						case <-time.After(time.Millisecond):
						}
					}
				})
				w.Quarantine(1)
				if got := receive(t, "the end of the quarantine", w.quiet); got != 1 {
					t.Fatalf("slot %d is quiet", got)
				}
				if !steer.IsShut(kept) {
					t.Error("what was left behind is still a listening socket")
				}
				next := w.man(1, "http")
				took.Store(0)
				w.steer(Share{Slot: 1, Weight: 1})
				if got := count(t, network(conf), w.reachable("http"), 20); got["1"] != 20 {
					t.Errorf("steered to the slot that has changed hands: %v", got)
				}
				w.steer(Share{Slot: 0, Weight: 1})
				if got := count(t, network(conf), w.reachable("http"), 20); got["0"] != 20 {
					t.Errorf("steered to the other: %v", got)
				}
				for _, slot := range []int{0, 1, 2} {
					if who, err := w.probe(slot, "http"); err != nil || who != strconv.Itoa(slot) {
						t.Errorf("the check of slot %d got %q, %v", slot, who, err)
					}
				}
				close(stop)
				ends.Wait()
				if n := took.Load(); n != 0 {
					t.Errorf("%d connections went to what was left behind", n)
				}
				next.stop()
				w.Quarantine(1)
				receive(t, "the end of the quarantine", w.quiet)
			}
			if d := w.Status()[0].Drift; d != 0 {
				t.Errorf("%d slots are said to have drifted", d)
			}
		})
	}
}

// While slots change hands, every connection is answered by whom it was steered to.
func TestFreshSocketsUnderTraffic(t *testing.T) {
	for _, kind := range []string{"IPv4", "unix"} {
		conf := addrs(t)[kind]
		t.Run(kind, func(t *testing.T) {
			w := newWorld(t, conf)
			w.host()
			w.man(0, "http")
			w.steer(Share{Slot: 0, Weight: 1})
			addr := w.reachable("http")
			stop := make(chan struct{})
			var clients sync.WaitGroup
			var asked atomic.Int64
			for range 4 {
				clients.Go(func() {
					for {
						select {
						case <-stop:
							return
						default:
						}
						who, err := ask(network(conf), addr)
						if err != nil || who == "" {
							t.Errorf("%q, %v", who, err)
							return
						}
						asked.Add(1)
					}
				})
			}
			has := 0
			for generation := range uint64(20) {
				next := 1 + int(generation)%3
				files, err := w.Man(next, []string{"http"}, 2+generation)
				if err != nil {
					t.Fatal(err)
				}
				l := listenerOf(t, files[0].FD)
				k := &worker{slot: next, listeners: []net.Listener{l}}
				k.wait.Go(func() {
					for {
						c, err := l.Accept()
						if err != nil {
							return
						}
						k.wait.Go(func() { serve(c, strconv.Itoa(next)) })
					}
				})
				w.steer(Share{Slot: next, Weight: 1})
				if who, err := ask(network(conf), addr); err != nil || who != strconv.Itoa(next) {
					t.Fatalf("steered to %d: %q, %v", next, who, err)
				}
				w.steer(Share{Slot: 0, Weight: 1})
				over := w.Quiesce(next)
				eventually(t, "the worker has accepted all", over)
				k.stop()
				w.Quarantine(next)
				receive(t, "the end of the quarantine", w.quiet)
				has++
			}
			close(stop)
			clients.Wait()
			t.Logf("%d times a slot changed hands under %d connections", has, asked.Load())
		})
	}
}

// hostileWays are what can be done by a socket that was kept to the group that it is
// or was in. Each is done in a loop.
var hostileWays = map[string]func(fd, i int){
	"accepts":       func(int, int) {},
	"attaches":      func(fd, _ int) { _ = steer.Attach(fd, elsewhere) },
	"detaches":      func(fd, _ int) { detach(fd) },
	"listens again": func(fd, _ int) { again(fd) },
	"listens and attaches": func(fd, i int) {
		if _, _, listens := steer.Queue(fd); listens && i%3 != 0 {
			_ = steer.Attach(fd, elsewhere)
			return
		}
		again(fd)
	},
	"listens and detaches": func(fd, i int) {
		if _, _, listens := steer.Queue(fd); listens && i%3 != 0 {
			detach(fd)
			return
		}
		again(fd)
	},
	"clears options": func(fd, _ int) {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 0)
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 0)
	},
}

// elsewhere is where none of the slots is that the test steers to.
var elsewhere = []bpf.Instruction{bpf.RetConstant{Val: testSlots - 1}}

func detach(fd int) { _ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DETACH_REUSEPORT_BPF, 0) }

func again(fd int) {
	_ = unix.Shutdown(fd, unix.SHUT_RDWR)
	_ = unix.Listen(fd, 100)
}

// attackers are those who have kept sockets.
type attackers struct {
	stop  chan struct{}
	wait  sync.WaitGroup
	turns atomic.Int64
	took  atomic.Int64
}

func attack(kept []int, way func(fd, i int)) *attackers {
	a := &attackers{stop: make(chan struct{})}
	for _, fd := range kept {
		a.wait.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-a.stop:
					return
				default:
				}
				way(fd, i)
				for {
					got, _, err := unix.Accept4(fd, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
					if err != nil {
						break
					}
					closeFD(got)
					a.took.Add(1)
				}
				a.turns.Add(1)
				time.Sleep(50 * time.Microsecond)
			}
		})
	}
	return a
}

// turn waits until they have done it some more times.
func (a *attackers) turn(t *testing.T) {
	t.Helper()
	most := a.turns.Load() + 100
	eventually(t, "the attack goes on", func() bool { return a.turns.Load() > most })
}

func (a *attackers) end() {
	close(a.stop)
	a.wait.Wait()
}

// Whoever has kept sockets does what can be done by them. From the end of the
// quarantine on he has nothing of it.
func TestHostileLeftover(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("a socket can be given to another user by root only")
	}
	for _, kind := range []string{"IPv4", "all addresses"} {
		conf, ok := addrs(t)[kind]
		if !ok {
			continue
		}
		for name, way := range hostileWays {
			t.Run(kind+"/"+name, func(t *testing.T) { attacked(t, conf, way) })
		}
	}
}

func attacked(t *testing.T, conf config.Listener, way func(fd, i int)) {
	w := newWorld(t, conf)
	w.host()
	w.man(0, "http")
	w.steer(Share{Slot: 0, Weight: 1})
	slots := []int{1, 2, 3}
	var kept []int
	for _, slot := range slots {
		files, err := w.Man(slot, []string{"http"}, uint64(10+slot))
		if err != nil {
			t.Fatal(err)
		}
		kept = append(kept, leftover(t, files))
	}
	a := attack(kept, way)
	defer a.end()
	a.turn(t)
	for _, slot := range slots {
		w.Quarantine(slot)
	}
	for range slots {
		receive(t, "the end of a quarantine", w.quiet)
	}
	a.turn(t)
	a.took.Store(0)
	serves := func(slot int) {
		t.Helper()
		if got := count(t, "tcp", w.reachable("http"), 100); got[strconv.Itoa(slot)] != 100 {
			t.Errorf("steered to slot %d: %v", slot, got)
		}
		a.turn(t)
	}
	serves(0)
	for _, slot := range slots {
		w.man(slot, "http")
		w.steer(Share{Slot: slot, Weight: 1})
		serves(slot)
		if who, err := w.probe(slot, "http"); err != nil || who != strconv.Itoa(slot) {
			t.Errorf("the check of slot %d got %q, %v", slot, who, err)
		}
	}
	if n := a.took.Load(); n != 0 {
		t.Errorf("%d connections were accepted by what was left behind", n)
	}
	// Slots change hands once more, while the old sockets are still held.
	w.steer(Share{Slot: 0, Weight: 1})
	for _, slot := range slots {
		w.Quarantine(slot)
	}
	for range slots {
		receive(t, "the end of a quarantine", w.quiet)
	}
	serves(0)
}

// The master dies after each step of a renewal, while somebody keeps the old socket
// or nobody does. The next one finds every slot where it is.
func TestMasterDiesInARenewal(t *testing.T) {
	for _, kind := range []string{"IPv4", "unix"} {
		for _, step := range []string{stepHeld, stepListens, stepDisowned, stepShut, stepKept} {
			for _, kept := range []bool{false, true} {
				conf := addrs(t)[kind]
				t.Run(kind+"/"+strings.ReplaceAll(step, " ", "-")+"/"+strconv.FormatBool(kept), func(t *testing.T) {
					dieIn(t, conf, step, kept)
				})
			}
		}
	}
}

func dieIn(t *testing.T, conf config.Listener, step string, kept bool) {
	s := keepertest.New(t)
	first := mustHold(t, s, 8, conf)
	first.man(0, "http")
	first.man(3, "http")
	first.steer(Share{Slot: 0, Weight: 1})
	files, err := first.Man(1, []string{"http"}, 5)
	if err != nil {
		t.Fatal(err)
	}
	fd := leftover(t, files)
	if !kept {
		null, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		if err := unix.Dup3(null, fd, unix.O_CLOEXEC); err != nil {
			t.Fatal(err)
		}
		closeFD(null)
	}
	addr := first.reachable("http")
	first.Set.system.step = func(after string) {
		if after == step {
			runtime.Goexit()
		}
	}
	first.listeners[0].system.step = first.Set.system.step
	var died sync.WaitGroup
	died.Go(func() {
		_, _ = first.Man(1, []string{"http"}, 6)
		t.Error("it did not die")
	})
	died.Wait()
	dies(t, s, first)
	if got := count(t, network(conf), addr, 20); got["0"] != 20 {
		t.Fatalf("with no master: %v", got)
	}

	next := mustHold(t, s, 8, conf)
	for _, slot := range []int{0, 3} {
		if err := next.Assigned(slot, []string{"http"}, testGeneration); err != nil {
			t.Fatal(err)
		}
	}
	if got := count(t, network(conf), addr, 20); got["0"] != 20 {
		t.Fatalf("before the first steer: %v", got)
	}
	next.steer(Share{Slot: 0, Weight: 1})
	files, err = next.Man(1, []string{"http"}, 6)
	if err != nil {
		t.Fatal(err)
	}
	if kept && !steer.IsShut(fd) {
		t.Error("what was left behind is still a listening socket")
	}
	closeFD(files[0].FD)
	next.man(1, "http")
	for _, slot := range []int{0, 1, 3} {
		next.steer(Share{Slot: slot, Weight: 1})
		if got := count(t, network(conf), addr, 20); got[strconv.Itoa(slot)] != 20 {
			t.Errorf("steered to slot %d: %v", slot, got)
		}
		if who, err := next.probe(slot, "http"); err != nil || who != strconv.Itoa(slot) {
			t.Errorf("the check of slot %d got %q, %v", slot, who, err)
		}
	}
	for _, name := range s.Names() {
		if strings.Contains(name, freshSuffix) {
			t.Errorf("%s is still held", name)
		}
	}
	if got := len(s.Names()); got != 9 {
		t.Errorf("%d sockets are held", got)
	}
}

// dies closes what a master has, and with it the fresh socket that it had no place for.
func dies(t *testing.T, s *keepertest.Shelf, w *world) {
	t.Helper()
	ours := map[int]bool{}
	inodes := map[uint64]bool{}
	for _, name := range s.Names() {
		h, _ := s.Of(name)
		ours[h.FD] = true
		if strings.Contains(h.Name, freshSuffix) {
			inodes[steer.Inode(h.FD)] = true
		}
	}
	if err := w.Leave(); err != nil && !errors.Is(err, errClosed) {
		t.Fatal(err)
	}
	all, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range all {
		if fd, err := strconv.Atoi(e.Name()); err == nil && !ours[fd] && inodes[steer.Inode(fd)] {
			closeFD(fd)
		}
	}
}
