package listen

import (
	"errors"
	"net"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/masterd/masterd/pkg/master/config"
	"github.com/masterd/masterd/pkg/master/keeper"
	"github.com/masterd/masterd/pkg/master/keeper/keepertest"
	"github.com/masterd/masterd/pkg/master/listen/steer"
)

// managerSocket is what a service manager would pass.
func managerSocket(t *testing.T, c config.Listener, reusePort bool) int {
	t.Helper()
	at, dual, err := steer.Resolve(c)
	if err != nil {
		t.Fatal(err)
	}
	fd, err := steer.Bind(at, dual, reusePort)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeFD(fd) })
	if err := unix.Listen(fd, 64); err != nil {
		t.Fatal(err)
	}
	return fd
}

// givenWorld opens a Set with a duplicate of the manager's socket.
func givenWorld(t *testing.T, fd int, held []keeper.Held, ls ...config.Listener) (*world, error) {
	t.Helper()
	n, err := duplicate(fd)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, orphans: make(chan net.Conn, 4096), own: make(chan net.Conn, 4096), quiet: make(chan int, 4096)}
	set, err := Open(Options{
		Listeners: ls, Slots: testSlots, Held: held, Given: []Given{{"http", n}},
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

// What waits in the service manager's socket is served, it is steered to slots
// beside it, and when the Set is closed it is as before: the next Set serves
// what came meanwhile.
func TestGivenSocket(t *testing.T) {
	for name, c := range map[string]struct {
		host, steering string
		reusePort      bool
		want           string
	}{
		"IPv4":          {"127.0.0.1", "auto", true, kernel},
		"all addresses": {"", "auto", true, kernel},
		"not pooled":    {"127.0.0.1", "auto", false, shared},
		"asked for":     {"127.0.0.1", shared, true, shared},
	} {
		t.Run(name, func(t *testing.T) {
			conf := tcp("http", c.host)
			conf.Port, conf.Steering = freePort(t), c.steering
			fd := managerSocket(t, conf, c.reusePort)
			at, err := steer.Address(fd)
			if err != nil {
				t.Fatal(err)
			}
			for round := range 3 {
				var clients []net.Conn
				for range 10 {
					conn, err := net.Dial("tcp", at.String())
					if err != nil {
						t.Fatal(err)
					}
					clients = append(clients, conn)
				}
				w, err := givenWorld(t, fd, nil, conf)
				if err != nil {
					t.Fatalf("round %d: %v", round, err)
				}
				if st := w.Status(); st[0].Steering != c.want {
					t.Errorf("it is steered by %s (%s)", st[0].Steering, st[0].Reason)
				}
				w.host()
				worker := w.man(3, "http")
				w.steer(Share{Slot: 3, Weight: 1})
				for i, conn := range clients {
					if who, err := question(conn); err != nil || who != "orphan" && who != "3" {
						t.Fatalf("round %d, client %d: %q, %v", round, i, who, err)
					}
				}
				if got := count(t, "tcp", at.String(), 20); got["3"] != 20 {
					t.Errorf("round %d: %v", round, got)
				}
				if c.want == shared {
					worker.stop()
				}
				last := w.man(5, "http")
				w.steer(Share{Slot: 5, Weight: 1})
				if got := count(t, "tcp", at.String(), 20); got["5"] != 20 {
					t.Errorf("round %d: %v", round, got)
				}
				last.stop()
				if err := w.Close(); err != nil {
					t.Fatal(err)
				}
				if _, _, listens := steer.Queue(fd); !listens {
					t.Fatal("the service manager's socket was shut down")
				}
			}
		})
	}
}

// A master that follows another has the socket from the keeper already; it is
// still the service manager's.
func TestGivenSocketIsTakenOver(t *testing.T) {
	conf := tcp("http", "127.0.0.1")
	conf.Port = freePort(t)
	fd := managerSocket(t, conf, true)
	s := keepertest.New(t)
	n, err := duplicate(fd)
	if err != nil {
		t.Fatal(err)
	}
	first, err := Open(Options{Listeners: []config.Listener{conf}, Slots: testSlots, Given: []Given{{"http", n}}, Keeper: s})
	if err != nil {
		t.Fatal(err)
	}
	if err := first.Leave(); err != nil {
		t.Fatal(err)
	}
	next, err := givenWorld(t, fd, s.All(), conf)
	if err != nil {
		t.Fatal(err)
	}
	next.man(1, "http")
	next.steer(Share{Slot: 1, Weight: 1})
	if got := count(t, "tcp", next.reachable("http"), 20); got["1"] != 20 {
		t.Error(got)
	}
	if err := next.Close(); err != nil {
		t.Fatal(err)
	}
	if _, _, listens := steer.Queue(fd); !listens {
		t.Fatal("the service manager's socket was shut down")
	}
}

// What does not fit is refused with what to do, and left as it was.
func TestGivenSocketThatDoesNotFit(t *testing.T) {
	conf := tcp("http", "127.0.0.1")
	conf.Port = freePort(t)
	other := tcp("http", "127.0.0.1")
	other.Port = freePort(t)
	insists := conf
	insists.Steering = kernel
	path := onPath("http", t.TempDir()+"/http.sock")
	pooled, alone := managerSocket(t, conf, true), managerSocket(t, other, false)
	datagram, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer closeFD(datagram)
	insistsOther := other
	insistsOther.Steering = kernel
	before := descriptors(t)
	for want, c := range map[string]struct {
		fd   int
		conf config.Listener
	}{
		"make the socket unit and the configuration the same": {pooled, other},
		"ReusePort=yes":                  {alone, insistsOther},
		"take it out of the socket unit": {pooled, path},
		"it is no listening TCP socket":  {datagram, conf},
	} {
		_, err := givenWorld(t, c.fd, nil, c.conf)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q, and it should say %q", err, want)
		}
	}
	if got := descriptors(t); got > before {
		t.Errorf("%d descriptors, and %d before", got, before)
	}
	if _, _, listens := steer.Queue(pooled); !listens {
		t.Error("the service manager's socket was shut down")
	}
}

// An address that the service manager has opened under another name is nobody else's:
// what is wrong is the name, and it is said what to write.
func TestGivenSocketOfAnotherName(t *testing.T) {
	conf := tcp("web", "127.0.0.1") // it is given as "http"
	conf.Port = freePort(t)
	wide := tcp("web", "")
	wide.Port = conf.Port
	fd := managerSocket(t, conf, true)
	path := onPath("web", t.TempDir()+"/web.sock")
	u, err := steer.Stream(unix.AF_UNIX)
	if err != nil {
		t.Fatal(err)
	}
	defer closeFD(u)
	if err := errors.Join(unix.Bind(u, &unix.SockaddrUnix{Name: path.Path}), unix.Listen(u, 1)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		fd   int
		conf config.Listener
		want string
	}{
		{fd, conf, `under the name "http", and the listener's name is "web": write FileDescriptorName=web in the socket unit`},
		{fd, wide, "write FileDescriptorName=web in the socket unit"},
		{u, path, "take it out of the socket unit"},
	} {
		_, err := givenWorld(t, c.fd, nil, c.conf)
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "held by") {
			t.Errorf("%q, and it should say %q", err, c.want)
		}
	}
	// One that is another address's is no hindrance.
	free := tcp("web", "127.0.0.1")
	free.Port = freePort(t)
	if _, err := givenWorld(t, fd, nil, free); err != nil {
		t.Error(err)
	}
}
