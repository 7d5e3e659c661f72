package bindsub

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/masterd/masterd/pkg/master/proc"
)

func TestMain(m *testing.M) {
	proc.ShimMain()
	if len(os.Args) > 1 && os.Args[1] == "as-program" {
		program(os.Args[2:])
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// program is what the tests start: something that knows nothing of masterd.
func program(args []string) {
	fail := func(err error) {
		if err != nil {
			fmt.Println(err)
			os.Exit(3)
		}
	}
	switch args[0] {
	case "serve": // NETWORK ADDRESS
		l, err := net.Listen(args[1], args[2])
		fail(err)
		fail(http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprintf(w, "%d", os.Getpid())
		})))
	case "child": // the same, in a child
		cmd := exec.Command(os.Args[0], "as-program", "serve", args[1], args[2])
		cmd.Stdout = os.Stdout
		fail(cmd.Run())
	case "threads": // several sockets of one address, as SO_REUSEPORT allows
		var all sync.WaitGroup
		for range 4 {
			all.Go(func() {
				c := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
					return raw.Control(func(fd uintptr) { fail(unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)) })
				}}
				l, err := c.Listen(context.Background(), args[1], args[2])
				fail(err)
				fail(http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintf(w, "%d", os.Getpid()) })))
			})
		}
		all.Wait()
	case "shares": // NETWORK ADDRESS SIDE: that one by several sockets
		c := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
			return raw.Control(func(fd uintptr) { fail(unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)) })
		}}
		for range 4 {
			_, err := c.Listen(context.Background(), args[1], args[3])
			fail(err)
		}
		program([]string{"serve", args[1], args[2]})
	case "flood": // bind without end, beside serving
		go func() {
			for {
				fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
				fail(err)
				_ = unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}})
				unix.Close(fd)
			}
		}()
		program([]string{"serve", args[1], args[2]})
	case "flood-port": // of an address that somebody has
		go func() {
			for {
				fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
				fail(err)
				_ = unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}, Port: 9})
				unix.Close(fd)
			}
		}()
		program([]string{"serve", args[1], args[2]})
	case "again": // binds a port that it has just closed
		// Not 127.0.0.1: a client on this machine could be given the port meanwhile.
		at := &unix.SockaddrInet4{Addr: [4]byte{127, 83, 12, 7}}
		for range 200 {
			fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
			fail(err)
			fail(unix.Bind(fd, at))
			has, err := unix.Getsockname(fd)
			fail(err)
			at = has.(*unix.SockaddrInet4)
			fail(unix.Close(fd))
		}
		program([]string{"serve", args[1], args[2]})
	case "often": // binds its slot
		at := netip.MustParseAddrPort(args[2])
		for range 50 {
			fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
			fail(err)
			fail(unix.Bind(fd, &unix.SockaddrInet4{Addr: at.Addr().As4(), Port: int(at.Port())}))
			fail(unix.Close(fd))
		}
		program([]string{"serve", args[1], args[2]})
	case "nonsense": // every call of bind that makes no sense
		text := make([]byte, 1<<16)
		raw := func(fd int, at uintptr, size int) {
			unix.Syscall(unix.SYS_BIND, uintptr(fd), at, uintptr(size))
			unix.Syscall(unix.SYS_LISTEN, uintptr(fd), ^uintptr(0), 0)
		}
		tcp, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
		fail(err)
		udp, err := unix.Socket(unix.AF_INET6, unix.SOCK_DGRAM, 0)
		fail(err)
		local, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
		fail(err)
		for _, fd := range []int{-1, 0, 12345, tcp, udp, local} {
			for _, size := range []int{-1, 0, 1, 2, 15, 16, 28, 128, 129, 1 << 16} {
				raw(fd, uintptr(unsafe.Pointer(&text[0])), size)
				raw(fd, 8, size)
				raw(fd, 0, size)
			}
		}
		runtime.KeepAlive(text)
		program([]string{"serve", args[1], args[2]})
	case "wait":
		time.Sleep(time.Hour)
	}
}

// stage is a worker, its slot and what is heard of it.
type stage struct {
	t     *testing.T
	slot  int // listens
	at    netip.AddrPort
	dual  bool
	rival string
	takes time.Duration // to find the rival
	gives time.Duration // what it takes to give the slot
	took  atomic.Int64  // in all
	user  string
	facts chan Fact
	noted chan string
	room  *Supervisor
	p     *proc.Process
	out   *os.File
	held  int // the filter's descriptor, as the keeper has it
}

// slot makes a listening socket as the master would.
func listening(t *testing.T, address string, dual bool) (int, netip.AddrPort) {
	t.Helper()
	at := netip.MustParseAddrPort(address)
	family, sa := unix.AF_INET6, unix.Sockaddr(&unix.SockaddrInet6{Addr: at.Addr().As16(), Port: int(at.Port())})
	if at.Addr().Is4() {
		family, sa = unix.AF_INET, &unix.SockaddrInet4{Addr: at.Addr().As4(), Port: int(at.Port())}
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.IPPROTO_TCP)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	only := 1
	if dual {
		only = 0
	}
	if family == unix.AF_INET6 {
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, only); err != nil {
			t.Fatal(err)
		}
	}
	for _, o := range []int{unix.SO_REUSEADDR, unix.SO_REUSEPORT} {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, o, 1); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Bind(fd, sa); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(fd, 512); err != nil {
		t.Fatal(err)
	}
	bound, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	port := uint16(0)
	switch b := bound.(type) {
	case *unix.SockaddrInet4:
		port = uint16(b.Port)
	case *unix.SockaddrInet6:
		port = uint16(b.Port)
	}
	return fd, netip.AddrPortFrom(at.Addr(), port)
}

func newStage(t *testing.T, address string, dual bool) *stage {
	t.Helper()
	s := &stage{t: t, dual: dual, facts: make(chan Fact, 100), noted: make(chan string, 100), held: -1}
	s.slot, s.at = listening(t, address, dual)
	return s
}

// options are those of a room for the stage's worker.
func (s *stage) options(fd int) Options {
	return Options{
		FD: fd, Listeners: []Listener{{Name: "http", At: s.at, Dual: s.dual}},
		Give: func(string) (int, bool, error) {
			time.Sleep(s.gives)
			fd, err := unix.FcntlInt(uintptr(s.slot), unix.F_DUPFD_CLOEXEC, 3)
			return fd, false, err
		},
		Rival: func(netip.AddrPort, bool) string {
			began := time.Now()
			time.Sleep(s.takes)
			s.took.Add(int64(time.Since(began)))
			return s.rival
		},
		Fact:  func(f Fact) { s.facts <- f },
		Noted: func(name string) { s.noted <- name },
	}
}

// start runs a program; PORT stands for the slot's.
func (s *stage) start(args ...string) {
	s.t.Helper()
	self, err := os.Executable()
	if err != nil {
		s.t.Fatal(err)
	}
	for i := range args {
		args[i] = strings.ReplaceAll(args[i], "PORT", fmt.Sprint(s.at.Port()))
	}
	s.run(self, append([]string{self, "as-program"}, args...)...)
}

func (s *stage) run(path string, args ...string) {
	s.t.Helper()
	var err error
	if s.out, err = os.CreateTemp(s.t.TempDir(), "out"); err != nil {
		s.t.Fatal(err)
	}
	s.p, err = proc.Start(proc.Spec{Program: path, Args: args, User: s.user, Filter: true, Stdout: int(s.out.Fd()), Stderr: int(s.out.Fd())})
	if err != nil {
		s.t.Skip("no filter can be installed here: ", err)
	}
	filter := s.p.Filter()
	if s.held, err = unix.FcntlInt(uintptr(filter), unix.F_DUPFD_CLOEXEC, 3); err != nil {
		s.t.Fatal(err)
	}
	if s.room, err = Begin(s.options(filter)); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(s.end)
}

func (s *stage) end() {
	if s.p == nil {
		return
	}
	_ = s.p.Signal(unix.SIGKILL)
	<-s.p.Done()
	s.p.Close()
	s.room.Close()
	unix.Close(s.held)
	s.p = nil
}

func (s *stage) said() string {
	text, _ := os.ReadFile(s.out.Name())
	return string(text)
}

// hears waits for a fact.
func hears[F Fact](s *stage) F {
	s.t.Helper()
	limit := time.After(time.Minute)
	for {
		select {
		case f := <-s.facts:
			if f, ok := f.(F); ok {
				return f
			}
		case <-limit:
			s.t.Fatalf("no %T is heard; it says %s", *new(F), s.said())
		}
	}
}

// asks makes a request to the slot.
func (s *stage) asks(address string) string {
	s.t.Helper()
	c := http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	r, err := c.Get("http://" + address)
	for end := time.Now().Add(10 * time.Second); err != nil; r, err = c.Get("http://" + address) {
		if time.Now().After(end) { // what passes is told before the kernel has done it
			s.t.Fatal(err, s.said())
		}
		time.Sleep(time.Millisecond)
	}
	defer r.Body.Close()
	var pid string
	if _, err := fmt.Fscan(r.Body, &pid); err != nil {
		s.t.Fatal(err)
	}
	return pid
}

// What people write, and what is configured.
func TestProgramsServeOnTheirSlot(t *testing.T) {
	for _, c := range []struct {
		name, slot    string
		dual          bool
		program       []string
		asked, asked6 string
	}{
		{"the same", "127.0.0.1:0", false, []string{"serve", "tcp", "127.0.0.1:PORT"}, "127.0.0.1", ""},
		{"all for one", "127.0.0.1:0", false, []string{"serve", "tcp", ":PORT"}, "127.0.0.1", ""},
		{"all for all of IPv4", "0.0.0.0:0", false, []string{"serve", "tcp", ":PORT"}, "127.0.0.1", ""},
		{"all for all", "[::]:0", true, []string{"serve", "tcp", ":PORT"}, "127.0.0.1", "[::1]"},
		{"all of IPv4 for all", "[::]:0", true, []string{"serve", "tcp4", ":PORT"}, "127.0.0.1", "[::1]"},
		{"IPv6", "[::1]:0", false, []string{"serve", "tcp6", "[::1]:PORT"}, "", "[::1]"},
		{"a child", "127.0.0.1:0", false, []string{"child", "tcp", "127.0.0.1:PORT"}, "127.0.0.1", ""},
		{"threads", "127.0.0.1:0", false, []string{"threads", "tcp", "127.0.0.1:PORT"}, "127.0.0.1", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t, c.slot, c.dual)
			s.start(c.program...)
			if w := hears[Waits](s); !strings.Contains(w.Detail, "it has not bound tcp://") {
				t.Error(w)
			}
			hears[Listens](s)
			if name := <-s.noted; name != "http" {
				t.Error(name)
			}
			for _, host := range []string{c.asked, c.asked6} {
				if host == "" {
					continue
				}
				if pid := s.asks(fmt.Sprintf("%s:%d", host, s.at.Port())); pid != fmt.Sprint(s.p.PID()) && c.name != "a child" {
					t.Errorf("%s: process %s answers, not %d", host, pid, s.p.PID())
				}
			}
			info, err := unix.GetsockoptTCPInfo(s.slot, unix.IPPROTO_TCP, unix.TCP_INFO)
			if err != nil || info.Sacked != 512 {
				t.Errorf("the backlog is %d, %v", info.Sacked, err)
			}
			// The socket outlives the program.
			s.end()
			conn, err := net.DialTimeout("tcp", fmt.Sprintf("%s%s:%d", c.asked, map[bool]string{true: c.asked6}[c.asked == ""], s.at.Port()), 10*time.Second)
			if err != nil {
				t.Fatal(err)
			}
			conn.Close()
		})
	}
}

func TestOtherAddressesPass(t *testing.T) {
	t.Parallel()
	s := newStage(t, "127.0.0.1:0", false)
	s.start("serve", "tcp", "127.0.0.2:PORT") // nobody is there
	for {
		if w := hears[Waits](s); strings.HasSuffix(w.Detail, fmt.Sprintf("it listens on 127.0.0.2:%d instead", s.at.Port())) {
			break
		}
	}
	if pid := s.asks(fmt.Sprintf("127.0.0.2:%d", s.at.Port())); pid != fmt.Sprint(s.p.PID()) {
		t.Error(pid)
	}
}

func TestOneAddressOfAllIsRefused(t *testing.T) {
	t.Parallel()
	s := newStage(t, "0.0.0.0:0", false)
	s.start("serve", "tcp", "127.0.0.1:PORT")
	if r := hears[Refused](s); !strings.Contains(r.Why, "by which it would be reached from more than it asks for") {
		t.Error(r)
	}
	<-s.p.Done()
	if text := s.said(); !strings.Contains(text, "address already in use") {
		t.Error(text)
	}
}

func TestSidePortOfTheOtherVersionIsRefused(t *testing.T) {
	t.Parallel()
	s := newStage(t, "127.0.0.1:0", false)
	s.rival = "worker 3 of generation 2 (v1)"
	s.start("serve", "tcp", "127.0.0.1:9090")
	if r := hears[Refused](s); !strings.Contains(r.Why, `it binds 127.0.0.1:9090, which worker 3 of generation 2 (v1) has`) {
		t.Error(r)
	}
}

// A side port that is bound with SO_REUSEPORT is let pass whoever has it, at once, and told once,
// however many sockets it has.
func TestSidePortThatCanBeSharedIsTold(t *testing.T) {
	t.Parallel()
	s := newStage(t, "127.0.0.1:0", false)
	s.rival = "worker 3 of generation 2 (v1)"
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	side := netip.MustParseAddrPort(l.Addr().String())
	l.Close()
	s.start("shares", "tcp", "127.0.0.1:PORT", side.String())
	got := hears[Sharing](s)
	if got.At != side || got.Dual {
		t.Errorf("%+v, want %s", got, side)
	}
	for told := true; told; {
		switch f := (<-s.facts).(type) {
		case Sharing, Refused:
			t.Errorf("%+v", f)
		case Listens:
			told = false
		}
	}
	if took := s.took.Load(); took > 0 {
		t.Errorf("while it waited somebody was looked for, for %s", time.Duration(took))
	}
	if why := got.With("pid 12 (shop), of worker 3,"); !strings.Contains(why, "it binds "+side.String()+" with SO_REUSEPORT, which pid 12 (shop), of worker 3, has too") {
		t.Error(why)
	}
}

// The next master goes on: what it holds of the last one is answered, also what
// was asked while there was none.
func TestNextMasterAnswers(t *testing.T) {
	t.Parallel()
	s := newStage(t, "127.0.0.1:0", false)
	s.start("wait")
	hears[Waits](s)
	s.room.Close()
	// Another program under the same filter asks meanwhile: here, a child of nobody's
	// that is the worker's own, had it begun later.
	kept, err := unix.FcntlInt(uintptr(s.held), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		t.Fatal(err)
	}
	if s.room, err = Begin(s.options(kept)); err != nil {
		t.Fatal(err)
	}
	hears[Waits](s)
	late := newStage(t, "127.0.0.1:0", false)
	late.start("serve", "tcp", "127.0.0.1:PORT")
	hears[Listens](late)
}

// A call that comes while nobody answers waits, and is answered by the next.
func TestCallWaitsForTheNextMaster(t *testing.T) {
	t.Parallel()
	s := newStage(t, "127.0.0.1:0", false)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p, err := proc.Start(proc.Spec{Program: self, Args: []string{self, "as-program", "serve", "tcp", s.at.String()}, Filter: true})
	if err != nil {
		t.Skip("no filter can be installed here: ", err)
	}
	s.p, s.held = p, p.Filter()
	s.out, _ = os.CreateTemp(t.TempDir(), "out")
	poll := []unix.PollFd{{Fd: int32(s.held), Events: unix.POLLIN}}
	for n := 0; n == 0 || err == unix.EINTR; { // it asks, and nobody hears
		n, err = unix.Poll(poll, 20_000)
		if n == 0 && err == nil {
			t.Fatal("it does not ask")
		}
	}
	kept, err := unix.FcntlInt(uintptr(s.held), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		t.Fatal(err)
	}
	if s.room, err = Begin(s.options(kept)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.end)
	hears[Listens](s)
	if pid := s.asks(s.at.String()); pid != fmt.Sprint(p.PID()) {
		t.Error(pid)
	}
}

// What an earlier master has noted is not waited for again.
func TestBoundBeforeIsKnown(t *testing.T) {
	t.Parallel()
	s := newStage(t, "127.0.0.1:0", false)
	s.start("serve", "tcp", "127.0.0.1:PORT")
	hears[Listens](s)
	s.room.Close()
	kept, err := unix.FcntlInt(uintptr(s.held), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		t.Fatal(err)
	}
	o := s.options(kept)
	o.Bound = []string{"http"}
	if s.room, err = Begin(o); err != nil {
		t.Fatal(err)
	}
	hears[Listens](s)
}

// Python, Node and what else is there bind as they like.
func TestInterpretersServeOnTheirSlot(t *testing.T) {
	t.Parallel()
	for name, args := range map[string][]string{
		"python3": {"-m", "http.server", "--bind", "127.0.0.1", "PORT"},
		"node":    {"-e", "require('http').createServer((q,r)=>r.end('1')).listen(PORT)"},
	} {
		path, err := exec.LookPath(name)
		if err != nil {
			t.Logf("there is no %s", name)
			continue
		}
		s := newStage(t, "127.0.0.1:0", false)
		for i := range args {
			args[i] = strings.ReplaceAll(args[i], "PORT", fmt.Sprint(s.at.Port()))
		}
		s.run(path, append([]string{path}, args...)...)
		hears[Listens](s)
		r, err := http.Get("http://" + s.at.String() + "/")
		if err != nil || r.StatusCode != 200 {
			t.Errorf("%s: %v, %v\n%s", name, r, err, s.said())
			continue
		}
		r.Body.Close()
		s.end()
	}
}

// Under another user than the master's, as root may start them.
func TestWorkerUser(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("another user needs root")
	}
	path, err := exec.LookPath("python3")
	if err != nil {
		t.Skip(err)
	}
	if path, err = filepath.EvalSymlinks(path); err != nil {
		t.Skip(err)
	}
	s := newStage(t, "127.0.0.1:0", false)
	s.user = "nobody"
	s.run(path, path, "-m", "http.server", "-d", "/usr/share", "--bind", "127.0.0.1", fmt.Sprint(s.at.Port()))
	hears[Listens](s)
	r, err := http.Get("http://" + s.at.String() + "/")
	if err != nil || r.StatusCode != 200 {
		t.Fatal(r, err, s.said())
	}
	r.Body.Close()
}

// A program that binds without end is slowed down, and serves all the same.
func TestFloodOfBinds(t *testing.T) {
	t.Parallel()
	s := newStage(t, "127.0.0.1:0", false)
	s.start("flood", "tcp", "127.0.0.1:PORT")
	hears[Listens](s)
	s.asks(s.at.String())
}

// A call can take long, as it has all processes looked at. What counts is the time: some
// is spent at once, and then one part in twenty.
func TestFloodOfBindsTakesNoCore(t *testing.T) {
	t.Parallel()
	s := newStage(t, "127.0.0.1:0", false)
	s.takes = 10 * time.Millisecond
	s.start("flood-port", "tcp", "127.0.0.1:PORT")
	hears[Listens](s)
	began := time.Now()
	time.Sleep(2 * time.Second) // it is a rate that is measured
	s.end()
	took, passed := time.Duration(s.took.Load()), time.Since(began)
	if most := burst/share + passed/share + pauseMost/share + 15*s.takes; took > most {
		t.Errorf("within %v calls took %v, at most %v are theirs", passed, took, most)
	}
	if took < s.takes {
		t.Errorf("they took %v: none was answered", took)
	}
}

// A call that looks at no other process does not pay for the time in which the master
// had to wait for a processor.
func TestCallsOfABusyMachineDoNotWait(t *testing.T) {
	t.Parallel()
	s := newStage(t, "127.0.0.1:0", false)
	s.gives = 40 * time.Millisecond
	began := time.Now()
	s.start("often", "tcp", "127.0.0.1:PORT")
	hears[Listens](s)
	if took, most := time.Since(began), 50*s.gives+9*time.Second; took > most {
		t.Errorf("50 calls took %v, at most %v", took, most)
	}
}

// A port that the program has closed is free: nobody else has its socket any more, also no
// process that is being started here meanwhile.
func TestAPortIsBoundAgainAtOnce(t *testing.T) {
	t.Parallel()
	path, err := exec.LookPath("true")
	if err != nil {
		t.Fatal(err)
	}
	ctx, end := context.WithCancel(t.Context())
	var starting sync.WaitGroup
	for range 4 {
		starting.Go(func() {
			for ctx.Err() == nil {
				_ = exec.Command(path).Run()
			}
		})
	}
	defer starting.Wait()
	defer end()
	s := newStage(t, "127.0.0.1:0", false)
	s.start("again", "tcp", "127.0.0.1:PORT")
	hears[Listens](s)
	s.asks(s.at.String())
}

// Nothing that a program can say by bind costs the master anything.
func TestNonsenseIsAnswered(t *testing.T) {
	t.Parallel()
	s := newStage(t, "127.0.0.1:0", false)
	s.start("nonsense", "tcp", "127.0.0.1:PORT")
	hears[Listens](s)
	s.asks(s.at.String())
}
