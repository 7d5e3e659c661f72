package listen

import (
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/masterd/masterd/pkg/master/config"
	"github.com/masterd/masterd/pkg/master/listen/steer"
)

// lingers leaves a connection of a server that is gone on a port, which it took with
// this option or none.
func lingers(t *testing.T, option int) netip.AddrPort {
	t.Helper()
	fd, err := steer.Stream(unix.AF_INET)
	if err != nil {
		t.Fatal(err)
	}
	defer closeFD(fd)
	if option != 0 {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, option, 1); err != nil {
			t.Fatal(err)
		}
	}
	// Below the ports that the kernel gives to clients: a connection may come from one.
	err = unix.EADDRINUSE
	for tries := 0; err != nil && tries < 100; tries++ {
		err = unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}, Port: 15000 + rand.IntN(15000)})
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(fd, 1); err != nil {
		t.Fatal(err)
	}
	at, err := steer.Address(fd)
	if err != nil {
		t.Fatal(err)
	}
	c, err := net.Dial("tcp", at.String())
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the connection is there", func() bool { return steer.Readable(fd) })
	got, _, err := unix.Accept4(fd, unix.SOCK_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	closeFD(got) // first, so that this end waits
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Fatal("the server said something")
	}
	c.Close()
	return at
}

// A port on which a program without SO_REUSEADDR has served is not to be had for a
// minute: it is said what that is and how long it takes, and nobody is to be stopped.
func TestPortThatLingers(t *testing.T) {
	// A socket that is only bound, on another port, has nothing to do with it.
	bound, err := steer.Bind(netip.MustParseAddrPort("127.0.0.1:0"), false, false)
	if err != nil {
		t.Fatal(err)
	}
	defer closeFD(bound)
	at := lingers(t, 0)
	for _, steering := range []string{"auto", shared} {
		conf := tcp("http", "127.0.0.1")
		conf.Port, conf.Steering = int(at.Port()), steering
		_, err := Open(Options{Listeners: []config.Listener{conf}, Slots: 2})
		e := asListenError(t, err)
		if e.Wait < 10*time.Second || e.Wait > 61*time.Second || e.Holder != "" {
			t.Errorf("wait %v, holder %q", e.Wait, e.Holder)
		}
		if text := e.Error(); !strings.Contains(text, "TIME_WAIT") || !strings.Contains(text, "nobody listens") || strings.Contains(text, "stop what") {
			t.Error(text)
		}
	}
}

// Where the kernel lets it, such a port is taken.
func TestPortThatLingersAndCanBeHad(t *testing.T) {
	for name, option := range map[string]int{"SO_REUSEADDR": unix.SO_REUSEADDR, "SO_REUSEPORT": unix.SO_REUSEPORT} {
		t.Run(name, func(t *testing.T) {
			at := lingers(t, option)
			conf := tcp("http", "127.0.0.1")
			conf.Port = int(at.Port())
			w := newWorld(t, conf)
			w.man(0, "http")
			w.steer(Share{Slot: 0, Weight: 1})
			if got := count(t, "tcp", at.String(), 5); got["0"] != 5 {
				t.Error(got)
			}
		})
	}
}

// A connection that a process makes from the port has a holder.
func TestPortThatAConnectionComesFrom(t *testing.T) {
	server, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	c, err := net.Dial("tcp", server.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	conf := tcp("http", "127.0.0.1")
	conf.Port = c.LocalAddr().(*net.TCPAddr).Port
	_, err = Open(Options{Listeners: []config.Listener{conf}, Slots: 2})
	if e := asListenError(t, err); !strings.Contains(e.Holder, "pid "+strconv.Itoa(os.Getpid())) || e.Wait != 0 {
		t.Errorf("%v, wait %v", e, e.Wait)
	}
}

// What a reload could not open is found without opening it.
func TestTry(t *testing.T) {
	if err := Try(tcp("http", "127.0.0.1"), nil); err != nil {
		t.Errorf("a free port: %v", err)
	}
	other, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	conf := tcp("http", "127.0.0.1")
	conf.Port = other.Addr().(*net.TCPAddr).Port
	if e := asListenError(t, Try(conf, nil)); e.Holder == "" || e.Advice == "" {
		t.Errorf("a taken port: %v", e)
	}
	wide := conf
	wide.Host = ""
	if Try(wide, nil) == nil {
		t.Error("all addresses of a taken port")
	}
	if err := Try(wide, []int{os.Getpid()}); err != nil {
		t.Errorf("all addresses of a port that is ours: %v", err)
	}
	path := onPath("http", t.TempDir()+"/s")
	if err := Try(path, nil); err != nil {
		t.Error(err)
	}
	l, err := net.Listen("unix", path.Path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if e := asListenError(t, Try(path, nil)); e.Holder == "" {
		t.Errorf("a taken path: %v", e)
	}
}

// Who may connect is what is configured: a group that is not configured any more loses
// its access, and what is changed by hand is put back, whatever the steering.
func TestAccessIsWhatIsConfigured(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can give a socket to a group it is not in")
	}
	conf := onPath("http", t.TempDir()+"/s")
	w := newWorld(t, conf)
	w.man(0, "http")
	w.man(1, "http")
	w.steer(Share{Slot: 0, Weight: 1})
	is := func(mode uint32, gid int) bool {
		var st unix.Stat_t
		return unix.Lstat(conf.Path, &st) == nil && st.Mode&0o7777 == mode && int(st.Gid) == gid
	}
	group := conf
	group.Group = "daemon"
	if err := w.Add([]config.Listener{group}); err != nil {
		t.Skip(err)
	}
	if is(0o660, os.Getegid()) {
		t.Fatal("the group was not set")
	}
	if err := w.Add([]config.Listener{conf}); err != nil {
		t.Fatal(err)
	}
	if !is(0o660, os.Getegid()) {
		t.Error("a group that is not configured any more still has its access")
	}
	for slot := range 2 {
		drift := w.Status()[0].Drift
		if err := os.Chmod(conf.Path, 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.Lchown(conf.Path, 1, 1); err != nil {
			t.Fatal(err)
		}
		eventually(t, "mode and group are put back", func() bool { return is(0o660, os.Getegid()) })
		eventually(t, "it is counted", func() bool { return w.Status()[0].Drift == drift+1 })
		// Just before the steering moves: the other slot's socket is as it should be.
		if err := os.Chmod(conf.Path, 0o777); err != nil {
			t.Fatal(err)
		}
		w.steer(Share{Slot: 1 - slot, Weight: 1})
		if !is(0o660, os.Getegid()) {
			t.Error("after the steer it is other than configured")
		}
	}
	// And when it comes back.
	w.steer(Share{Slot: 0, Weight: 1})
	if !is(0o660, os.Getegid()) {
		t.Error("the first slot has kept what was changed by hand")
	}
}
