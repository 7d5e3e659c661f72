package listen

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/masterd/masterd/pkg/master/config"
	"github.com/masterd/masterd/pkg/master/listen/steer"
)

// A worker shuts slots down through its duplicates. The kernel moves others
// into the holes; they are mended, everybody is where he was.
func TestShutdownIsMended(t *testing.T) {
	t.Parallel()
	for _, down := range [][]int{{2}, {0}, {testSlots - 1}, {1, 3}, {0, 1, 2, 3}, {3, testSlots - 1, 0}} {
		t.Run(fmt.Sprint(down), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, tcp("http", "127.0.0.1"))
			w.host()
			fds := map[int]int{}
			for slot := range testSlots {
				files, err := w.Man(slot, []string{"http"}, testGeneration)
				if err != nil {
					t.Fatal(err)
				}
				fds[slot] = files[0].FD
				defer closeFD(files[0].FD)
			}
			w.steer(Share{Slot: 5, Weight: 1})
			w.man(5, "http")
			for _, slot := range down {
				if err := unix.Shutdown(fds[slot], unix.SHUT_RD); err != nil {
					t.Fatal(err)
				}
			}
			eventually(t, "all were mended", func() bool { return w.Status()[0].Drift == uint64(len(down)) })
			// At once everybody is reached, by order or not.
			if got := count(t, "tcp", w.Addr("http"), 50); got["5"] != 50 {
				t.Error("steering:", got)
			}
			for slot := range testSlots {
				if slot != 5 {
					w.man(slot, "http")
				}
			}
			check := func() {
				t.Helper()
				for slot := range testSlots {
					if who, err := w.probe(slot, "http"); err != nil || who != strconv.Itoa(slot) {
						t.Errorf("a check of slot %d reached %q, %v", slot, who, err)
					}
				}
			}
			check()
			// And soon the master's own socket is the last again.
			eventually(t, "the order is mended", func() bool {
				w.mu.Lock()
				defer w.mu.Unlock()
				l := w.listeners[0]
				return l.order[len(l.order)-1] == l.own() && len(l.order) == len(l.sockets)
			})
			check()
			if got := count(t, "tcp", w.Addr("http"), 50); got["5"] != 50 {
				t.Error("steering:", got)
			}
		})
	}
}

// A socket is shut down while connections are taken from it here: the
// master's own, or the one that all share.
func TestOwnSlotIsMended(t *testing.T) {
	t.Parallel()
	t.Run("kernel", func(t *testing.T) { ownSlotIsMended(t, tcp("http", "127.0.0.1")) })
	one := tcp("http", "127.0.0.1")
	one.Steering = shared
	t.Run("shared", func(t *testing.T) { ownSlotIsMended(t, one) })
}

func ownSlotIsMended(t *testing.T, c config.Listener) {
	c.Port = freePort(t)
	w := newWorld(t, c)
	w.steer()
	w.mu.Lock()
	l := w.listeners[0]
	fd := l.sockets[l.own()].fd
	w.mu.Unlock()
	if err := unix.Shutdown(fd, unix.SHUT_RD); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it was mended", func() bool { return w.Status()[0].Drift == 1 })
	go func() { serve(<-w.own, "master") }()
	if who, err := ask("tcp", w.Addr("http")); err != nil || who != "master" {
		t.Errorf("%q, %v", who, err)
	}
}

// A worker that calls listen() itself cuts the queue for all who share it.
func TestBacklogIsMended(t *testing.T) {
	t.Parallel()
	w := newWorld(t, tcp("http", "127.0.0.1"))
	files, err := w.Man(0, []string{"http"}, testGeneration)
	if err != nil {
		t.Fatal(err)
	}
	defer closeFD(files[0].FD)
	if err := unix.Listen(files[0].FD, 5); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it was mended", func() bool {
		_, limit, _ := steer.Queue(files[0].FD)
		return limit == 256 && w.Status()[0].Drift == 1
	})
}

// A worker replaces the steering program; it cannot be seen, only put back.
func TestForeignProgramIsReplaced(t *testing.T) {
	t.Parallel()
	w := newWorld(t, tcp("http", "127.0.0.1"))
	w.man(0, "http")
	w.man(1, "http")
	w.steer(Share{Slot: 0, Weight: 1})
	files, err := w.Man(1, []string{"http"}, testGeneration)
	if err != nil {
		t.Fatal(err)
	}
	defer closeFD(files[0].FD)
	if err := steer.Attach(files[0].FD, []bpf.Instruction{bpf.RetConstant{Val: 1}}); err != nil {
		t.Fatal(err)
	}
	if got := count(t, "tcp", w.Addr("http"), 5); got["1"] != 5 {
		t.Skip("a worker cannot do that here:", got)
	}
	w.mu.Lock()
	w.attached = time.Now().Add(-attachInterval)
	w.mu.Unlock()
	eventually(t, "the master's program is back", func() bool {
		who, err := ask("tcp", w.Addr("http"))
		if err != nil {
			t.Fatal(err)
		}
		return who == "0"
	})
}

// The public path is removed or replaced; it comes back.
func TestPathIsMended(t *testing.T) {
	t.Parallel()
	path := t.TempDir() + "/s"
	w := newWorld(t, onPath("http", path))
	w.man(0, "http")
	w.man(1, "http")
	w.steer(Share{Slot: 1, Weight: 1})
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is back", func() bool { return w.Status()[0].Drift == 1 })
	if got := count(t, "unix", path, 5); got["1"] != 5 {
		t.Error(got)
	}
	if err := os.Rename(hiddenName(path, "0"), path); err != nil { // leads to another slot now
		t.Fatal(err)
	}
	eventually(t, "it is back", func() bool { return w.Status()[0].Drift == 2 })
	if got := count(t, "unix", path, 5); got["1"] != 5 {
		t.Error(got)
	}
}

// A Unix socket that was shut down is lost; its slot gets another.
func TestUnixShutdown(t *testing.T) {
	t.Parallel()
	path := t.TempDir() + "/s"
	w := newWorld(t, onPath("http", path))
	w.host()
	w.man(0, "http")
	files, err := w.Man(1, []string{"http"}, testGeneration)
	if err != nil {
		t.Fatal(err)
	}
	defer closeFD(files[0].FD)
	w.steer(Share{Slot: 1, Weight: 1})
	if err := unix.Shutdown(files[0].FD, unix.SHUT_RDWR); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it was noticed", func() bool { return w.Status()[0].Drift == 1 })
	w.steer(Share{Slot: 0, Weight: 1})
	if got := count(t, "unix", path, 5); got["0"] != 5 {
		t.Error(got)
	}
	w.man(1, "http")
	w.steer(Share{Slot: 1, Weight: 1})
	if got := count(t, "unix", path, 5); got["1"] != 5 {
		t.Error(got)
	}
}

// A Unix slot that cannot be replaced costs no descriptor, and is replaced once it can be.
func TestUnixSlotThatCannotBeReplaced(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "sockets")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, onPath("http", filepath.Join(dir, "http.sock")))
	l := w.listeners[0]
	before := descriptors(t)
	w.mu.Lock()
	own, slot := l.sockets[l.own()].fd, l.sockets[2].fd
	w.mu.Unlock()
	if err := os.Rename(dir, dir+".away"); err != nil {
		t.Fatal(err)
	}
	for _, fd := range []int{own, slot} {
		if err := unix.Shutdown(fd, unix.SHUT_RDWR); err != nil {
			t.Fatal(err)
		}
	}
	broken := func(i int) bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return l.sockets[i].broken
	}
	eventually(t, "both are seen to be broken", func() bool { return broken(2) && broken(testSlots) })
	for range 5 {
		if _, err := w.Man(2, []string{"http"}, 1); err == nil {
			t.Fatal("a socket was bound in a directory that is not there")
		}
		if !broken(2) {
			t.Fatal("the slot is taken to be whole")
		}
	}
	if err := os.Rename(dir+".away", dir); err != nil {
		t.Fatal(err)
	}
	worker := w.man(2, "http")
	w.steer(Share{Slot: 2, Weight: 1})
	if got := count(t, "unix", w.Addr("http"), 5); got["2"] != 5 {
		t.Error(got)
	}
	worker.stop()
	eventually(t, "the master's own is mended", func() bool { return !broken(testSlots) })
	eventually(t, "no descriptor is lost", func() bool { return descriptors(t) <= before })
}

// The model of the kernel's array.
// A slot that was shut down a moment ago, of which the watcher has not been told, listens
// again because its next worker is to have the backlog, or the backlog has changed. That
// must not hide that it has another place in the kernel's array.
func TestShutdownIsMendedBeforeAnythingListensAgain(t *testing.T) {
	t.Parallel()
	conf := tcp("http", "127.0.0.1")
	other := conf
	other.Backlog = 1000
	for name, again := range map[string]func(w *world) error{
		"the next worker": func(w *world) error {
			return errors.Join(w.assign(w.listeners[0], 2, testGeneration), w.listeners[0].tune(2))
		},
		"another backlog": func(w *world) error { return w.change([]config.Listener{other}, make([]access, 1)) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, conf)
			w.host()
			for slot := range testSlots {
				w.man(slot, "http")
			}
			w.steer(Share{Slot: 5, Weight: 1})
			w.mu.Lock() // the watcher waits
			err := unix.Shutdown(w.listeners[0].sockets[2].fd, unix.SHUT_RD)
			if err == nil {
				err = again(w)
			}
			w.mu.Unlock()
			if err != nil {
				t.Fatal(err)
			}
			if got := count(t, "tcp", w.Addr("http"), 50); got["5"] != 50 {
				t.Error("steering:", got)
			}
			w.man(2, "http") // its worker's accept has ended
			w.steer(Share{Slot: 2, Weight: 1})
			if got := count(t, "tcp", w.Addr("http"), 50); got["2"] != 50 {
				t.Error("steering to the slot that was down:", got)
			}
			for slot := range testSlots {
				if who, err := w.probe(slot, "http"); err != nil || who != strconv.Itoa(slot) {
					t.Errorf("a check of slot %d reached %q, %v", slot, who, err)
				}
			}
		})
	}
}

// freePort is one that nobody has; a shared socket on a port that the kernel
// chose would lose it in a shutdown.
func freePort(t *testing.T) int {
	t.Helper()
	fd, err := steer.Bind(netip.AddrPortFrom(netip.IPv4Unspecified(), 0), false, false)
	if err != nil {
		t.Fatal(err)
	}
	defer closeFD(fd)
	at, err := steer.Address(fd)
	if err != nil {
		t.Fatal(err)
	}
	return int(at.Port())
}
