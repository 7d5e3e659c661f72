package listen

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/masterd/masterd/pkg/master/config"
	"github.com/masterd/masterd/pkg/master/listen/steer"
)

// refused opens listeners that cannot be had.
func refused(t *testing.T, ls ...config.Listener) *Error {
	t.Helper()
	set, err := Open(Options{Listeners: ls, Slots: testSlots})
	if err == nil {
		set.Close()
		t.Fatal("it was opened")
	}
	t.Log(err)
	return asListenError(t, err)
}

func portOfAddr(t *testing.T, addr string) int {
	t.Helper()
	a, err := netip.ParseAddrPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	return int(a.Port())
}

// Whoever has the port is named, though SO_REUSEPORT would let us in.
func TestPortIsTaken(t *testing.T) {
	me := fmt.Sprintf("pid %d", os.Getpid())
	for _, theirs := range []string{"127.0.0.1", "0.0.0.0", "::"} {
		t.Run(theirs, func(t *testing.T) {
			a := netip.MustParseAddr(theirs)
			fd, err := steer.Bind(netip.AddrPortFrom(a, 0), a.Is6(), true)
			if err != nil {
				t.Skip(err)
			}
			defer closeFD(fd)
			if err := unix.Listen(fd, 1); err != nil {
				t.Fatal(err)
			}
			at, err := steer.Address(fd)
			if err != nil {
				t.Fatal(err)
			}
			c := tcp("http", "127.0.0.1")
			c.Port = int(at.Port())
			e := refused(t, c)
			if !strings.Contains(e.Holder, me) || !errors.Is(e, unix.EADDRINUSE) {
				t.Errorf("held by %q: %v", e.Holder, e)
			}
			for _, want := range []string{"listener http", fmt.Sprint(c.Port), me} {
				if !strings.Contains(e.Error(), want) {
					t.Errorf("%q does not say %q", e, want)
				}
			}
		})
	}
}

// A second master of the same service disturbs nothing.
func TestSecondSet(t *testing.T) {
	path := t.TempDir() + "/s"
	w := newWorld(t, tcp("http", "127.0.0.1"), onPath("admin", path))
	w.man(0, "http", "admin")
	w.steer(Share{Slot: 0, Weight: 1})
	c := tcp("http", "127.0.0.1")
	c.Port = portOfAddr(t, w.Addr("http"))
	me := fmt.Sprintf("pid %d", os.Getpid())
	if e := refused(t, c); !strings.Contains(e.Holder, me) {
		t.Errorf("held by %q", e.Holder)
	}
	if e := refused(t, onPath("admin", path)); !strings.Contains(e.Holder, me) {
		t.Errorf("held by %q", e.Holder)
	}
	if got := count(t, "tcp", w.Addr("http"), 20); got["0"] != 20 {
		t.Error(got)
	}
	if got := count(t, "unix", path, 20); got["0"] != 20 {
		t.Error(got)
	}
}

// Two that start in one moment both find the port free; that is noticed after.
func TestJoined(t *testing.T) {
	var other int
	sys := host()
	sys.attach = func(fd int, p []bpf.Instruction) error {
		at, err := steer.Address(fd)
		if err != nil {
			return err
		}
		if other, err = steer.Bind(at, false, true); err != nil {
			return err
		}
		if err := unix.Listen(other, 1); err != nil {
			return err
		}
		return steer.Attach(fd, p)
	}
	_, err := open(Options{Listeners: []config.Listener{tcp("http", "127.0.0.1")}, Slots: testSlots}, sys)
	defer closeFD(other)
	if e := asListenError(t, err); !errors.Is(e, unix.EADDRINUSE) || !strings.Contains(e.Holder, fmt.Sprintf("pid %d", os.Getpid())) {
		t.Error(err)
	}
}

func TestAddressesThatCannotBe(t *testing.T) {
	absent := tcp("http", "203.0.113.77")
	absent.Port = 8080
	if e := refused(t, absent); !errors.Is(e, unix.EADDRNOTAVAIL) || e.Advice == "" {
		t.Error(e)
	}
	wrong := tcp("http", "127.0.0.1")
	wrong.Network = "tcp6"
	refused(t, wrong)
	unknown := tcp("http", "no-such-host.invalid")
	refused(t, unknown)
	if a := advise(unix.EACCES, config.Listener{Network: "tcp", Port: 80}); !strings.Contains(a, "CAP_NET_BIND_SERVICE") {
		t.Error(a)
	}
	if _, err := Open(Options{Slots: 0}); err == nil {
		t.Error("a pool of none was opened")
	}
}

// One that cannot be had, and nothing is left of the others.
func TestAllOrNone(t *testing.T) {
	path := t.TempDir() + "/s"
	absent := tcp("other", "203.0.113.77")
	absent.Port = 8080
	refused(t, onPath("admin", path), absent)
	left, err := filepath.Glob(filepath.Dir(path) + "/.*")
	if err != nil || len(left) > 0 {
		t.Error("left behind:", left, err)
	}
	w := newWorld(t, tcp("http", "127.0.0.1"))
	c := onPath("admin", path)
	if err := w.Add([]config.Listener{c, absent}); err == nil {
		t.Fatal("it was added")
	}
	if n := len(w.Status()); n != 1 {
		t.Errorf("%d listeners are open", n)
	}
	if _, err := os.Lstat(path); err == nil {
		t.Error("the path is still there")
	}
}

// Where the kernel cannot steer, auto says so and shares one socket.
func TestFallback(t *testing.T) {
	t.Parallel()
	for name, fail := range map[string]func(int, []bpf.Instruction) error{
		"refused": func(int, []bpf.Instruction) error { return unix.EOPNOTSUPP },
		"ignored": func(fd int, _ []bpf.Instruction) error {
			return steer.Attach(fd, []bpf.Instruction{bpf.RetConstant{Val: 0}})
		},
	} {
		t.Run(name, func(t *testing.T) {
			sys := host()
			sys.attach = fail
			c := tcp("http", "127.0.0.1")
			w := newWorldOn(t, sys, c)
			st := w.Status()[0]
			if st.Steering != shared || st.Reason == "" || len(w.Shared()) != 1 {
				t.Fatalf("%+v", st)
			}
			t.Log(st.Reason)
			w.man(0, "http")
			w.man(1, "http")
			w.steer(Share{Slot: 0, Weight: 1}, Share{Slot: 1, Weight: 1})
			if got := count(t, "tcp", w.Addr("http"), 20); got["0"]+got["1"] != 20 {
				t.Error(got)
			}
			w.Quarantine(0)
			receive(t, "quiet", w.quiet)

			c.Steering = kernel
			_, err := open(Options{Listeners: []config.Listener{c}, Slots: testSlots}, sys)
			t.Log(asListenError(t, err))
		})
	}
}

func TestPathsThatCannotBe(t *testing.T) {
	dir := t.TempDir()
	file, dangling := dir+"/file", dir+"/link"
	if err := os.WriteFile(file, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(dir+"/nothing", dangling); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{file, dangling, dir, dir + "/absent/s", dir + "/" + strings.Repeat("x", 100)} {
		refused(t, onPath("http", path))
	}
	if e := refused(t, onPath("http", dir+"/absent/s")); !strings.Contains(e.Advice, dir+"/absent") {
		t.Errorf("the advice is %q", e.Advice)
	}
	if b, err := os.ReadFile(file); err != nil || string(b) != "precious" {
		t.Errorf("%q, %v", b, err)
	}
	if _, err := os.Lstat(dangling); err != nil {
		t.Error(err)
	}
	no := onPath("http", dir+"/s")
	no.Group = "no-such-group-here"
	refused(t, no)
}

// What a dead master left behind is no obstacle; a live one's is.
func TestStalePath(t *testing.T) {
	path := t.TempDir() + "/s"
	for _, p := range []string{path, hiddenName(path, "0"), hiddenName(path, "own")} {
		l, err := net.ListenUnix("unix", &net.UnixAddr{Name: p, Net: "unix"})
		if err != nil {
			t.Fatal(err)
		}
		l.SetUnlinkOnClose(false)
		e := refused(t, onPath("http", path))
		if !strings.Contains(e.Holder, fmt.Sprintf("pid %d", os.Getpid())) {
			t.Errorf("held by %q", e.Holder)
		}
		l.Close()
	}
	w := newWorld(t, onPath("http", path))
	w.man(0, "http")
	w.steer(Share{Slot: 0, Weight: 1})
	if got := count(t, "unix", path, 5); got["0"] != 5 {
		t.Error(got)
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	left, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(left) > 0 {
		t.Error("left behind:", left, err)
	}
}

// A reload with other listeners.
func TestChangedListeners(t *testing.T) {
	path := t.TempDir() + "/s"
	first := []config.Listener{tcp("http", "127.0.0.1"), onPath("admin", path)}
	w := newWorld(t, first...)
	w.man(0, "http", "admin")
	w.steer(Share{Slot: 0, Weight: 1})
	addr := w.Addr("http")

	// The same name on all addresses, port kept; another backlog and mode; one more.
	wide := config.Listener{Name: "http", Network: "tcp4", Port: portOfAddr(t, addr), Backlog: 64}
	admin := onPath("admin", path)
	admin.Mode, admin.Backlog = 0o600, 32
	second := []config.Listener{wide, admin, tcp("debug", "127.0.0.1")}
	for range 2 { // nothing more happens the second time
		if err := w.Add(second); err != nil {
			t.Fatal(err)
		}
	}
	if st := w.Status(); len(st) != 4 {
		t.Fatalf("%+v", st)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if st := w.Status()[1]; st.QueueLimit != 32 {
		t.Errorf("%+v", st)
	}

	w.man(1, "http", "admin", "debug") // has the newer http
	w.steer(Share{Slot: 1, Weight: 1})
	if got := count(t, "tcp", addr, 20); got["0"] != 20 {
		t.Error("the older http is not the new worker's:", got)
	}
	for slot, want := range []string{"0", "1"} {
		if who, err := w.probe(slot, "http"); err != nil || who != want {
			t.Errorf("a check of slot %d reached %q, %v", slot, who, err)
		}
	}
	for _, a := range []string{"unix " + path, "tcp " + w.Addr("debug")} {
		network, addr, _ := strings.Cut(a, " ")
		if got := count(t, network, addr, 20); got["1"] != 20 {
			t.Error(a, got)
		}
	}
	w.Retain(second)
	if got := count(t, "tcp", addr, 20); got["1"] != 20 {
		t.Error("the older http is gone, the newer is on the same port:", got)
	}
	w.Retain(second[:2])
	if st := w.Status(); len(st) != 2 {
		t.Errorf("%+v", st)
	}

	admin.Steering = shared
	if err := w.Add([]config.Listener{admin}); err == nil {
		t.Error("steering changed while the listener was open")
	}
	again := wide
	again.Name = "other"
	before := len(w.Status())
	if err := w.Add([]config.Listener{again}); err != nil || len(w.Status()) != before || w.Addr("other") == "" {
		t.Errorf("another name for a listener: %v, %+v", err, w.Status())
	}
}

// After Close nothing works, and nothing breaks.
func TestClosed(t *testing.T) {
	w := newWorld(t, tcp("http", "127.0.0.1"))
	addr := w.Addr("http")
	files, err := w.Man(0, []string{"http"}, testGeneration)
	if err != nil {
		t.Fatal(err)
	}
	defer closeFD(files[0].FD)
	for range 2 {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	}
	if c, err := net.Dial("tcp", addr); err == nil {
		c.Close()
		t.Error("a worker's duplicate keeps the port open")
	}
	w.Quarantine(0)
	w.Retain(nil)
	if _, err := w.Man(0, nil, testGeneration); err == nil {
		t.Error("a slot was assigned")
	}
	if err := w.Steer(nil, 0); err == nil {
		t.Error("it was steered")
	}
	if err := w.Add(nil); err == nil {
		t.Error("listeners were added")
	}
	if st := w.Status(); len(st) != 0 {
		t.Error(st)
	}
	if _, err := w.probe(0, "http"); err == nil {
		t.Error("a slot was reached")
	}
}

func TestSettleTakesBackWhatAnAddChanged(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	before := onPath("local", path)
	w := newWorld(t, before)
	mode := func() os.FileMode {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		return info.Mode().Perm()
	}
	after := before
	after.Mode, after.Backlog = 0o600, 16
	if err := w.Add([]config.Listener{after}); err != nil || mode() != 0o600 {
		t.Fatalf("mode %o, %v", mode(), err)
	}
	if err := w.Settle([]config.Listener{before, tcp("gone", "127.0.0.1")}); err != nil || mode() != 0o660 {
		t.Errorf("mode %o, %v", mode(), err)
	}
	if n := len(w.Set.Status()); n != 1 {
		t.Errorf("%d listeners: it opens none", n)
	}
}
