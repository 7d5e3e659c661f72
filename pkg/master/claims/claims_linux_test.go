package claims

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "as-program" {
		program(os.Args[2], os.Args[3])
		return
	}
	os.Exit(m.Run())
}

// program has one of everything, and descriptor 3 as its listener.
func program(dir, side string) {
	fail := func(err error) {
		if err != nil {
			fmt.Println(err)
			os.Exit(3)
		}
	}
	fail(os.Chdir(dir))
	var open []any
	listen := func(network, address string) net.Listener {
		l, err := net.Listen(network, address)
		fail(err)
		open = append(open, l)
		return l
	}
	listen("tcp", side)
	listen("tcp", "127.0.0.1:0") // another in each version
	l := listen("unix", filepath.Join(dir, "listens"))
	listen("unix", "@claims-"+dir)
	d, err := net.ListenPacket("unixgram", filepath.Join(dir, "receives"))
	fail(err)
	gone := listen("unix", filepath.Join(dir, "gone"))
	fail(os.Remove(filepath.Join(dir, "gone")))
	c, err := net.Dial("unix", filepath.Join(dir, "listens"))
	fail(err)
	accepted, err := l.Accept()
	fail(err)
	pid := fmt.Appendln(nil, os.Getpid())
	fail(os.WriteFile(filepath.Join(dir, "here.pid"), pid, 0o600))
	fail(os.WriteFile(filepath.Join(dir, "another.pid"), []byte("1\n"), 0o600))
	fail(os.WriteFile(filepath.Join(dir, "long.pid"), append(pid, make([]byte, 100)...), 0o600))
	fail(unix.Mkfifo(filepath.Join(dir, "waits.pid"), 0o600))
	fail(os.Symlink("here.pid", filepath.Join(dir, "link.pid")))
	fail(os.Mkdir(filepath.Join(dir, "run"), 0o700))
	fail(os.WriteFile(filepath.Join(dir, "run", "named.pid"), pid, 0o600))
	fmt.Println("ready")
	time.Sleep(time.Hour)
	_ = append(open, d, gone, c, accepted)
}

// What a process has beside its listeners is found, and nothing else: no port that the kernel
// chose, no socket that is this process's too, none without a name, no file of another
// process's, and none that would hold up who reads it.
func TestClaims(t *testing.T) {
	dir := t.TempDir()
	free := freePort(t)
	ours, err := net.Listen("tcp", freePort(t))
	if err != nil {
		t.Fatal(err)
	}
	defer ours.Close()
	f, err := ours.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self, "as-program", dir, free)
	cmd.ExtraFiles = []*os.File{f}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	said := make([]byte, 100)
	if n, err := out.Read(said); err != nil || string(said[:n]) != "ready\n" {
		t.Fatalf("%q, %v", said[:n], err)
	}
	c, err := Of([]int{cmd.Process.Pid}, []string{"app", "-x", "--pid-file=run/named.pid", "run/waits.pid"})
	if err != nil {
		t.Fatal(err)
	}
	if want := []netip.AddrPort{netip.MustParseAddrPort(free)}; !slices.Equal(c.Ports, want) {
		t.Errorf("ports %v, want %v", c.Ports, want)
	}
	under := func(names ...string) (paths []string) {
		for _, name := range names {
			paths = append(paths, filepath.Join(dir, name))
		}
		return paths
	}
	if want := under("listens", "receives"); !slices.Equal(c.Sockets, want) {
		t.Errorf("sockets %v, want %v", c.Sockets, want)
	}
	if want := under("here.pid", "run/named.pid"); !slices.Equal(c.PIDFiles, want) {
		t.Errorf("pid files %v, want %v", c.PIDFiles, want)
	}
	if c, err := Of([]int{os.Getpid()}, nil); err != nil || len(c.Ports) > 0 {
		t.Errorf("of this process itself: %+v, %v", c, err)
	}
}

func freePort(t *testing.T) string {
	t.Helper()
	for port := 20000 + os.Getpid()%10000; port < 32000; port++ {
		c := net.ListenConfig{}
		if l, err := c.Listen(context.Background(), "tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			defer l.Close()
			if at := l.Addr().String(); !slices.Contains(given, at) {
				given = append(given, at)
				return at
			}
		}
	}
	t.Fatal("no port is free")
	return ""
}

var given []string

func TestClaimsAreSaid(t *testing.T) {
	at := netip.MustParseAddrPort
	for _, x := range []struct {
		c     Claims
		binds bool
		want  []string
	}{
		{Claims{}, true, nil},
		{Claims{Ports: []netip.AddrPort{at("127.0.0.1:9090"), at("[::]:9091")}}, true, []string{
			"Worker 7 listens on tcp://127.0.0.1:9090 and listens on tcp://:9091 beside its listeners",
			`{name: side-9090, address: "tcp://127.0.0.1:9090"}, {name: side-9091, address: "tcp://:9091"}; that needs a restart`,
		}},
		{Claims{Ports: []netip.AddrPort{at("127.0.0.1:9090")}}, false, []string{"and have the program take them from masterd"}},
		{Claims{Sockets: []string{"/run/a"}, PIDFiles: []string{"/run/a.pid"}}, true, []string{
			"has bound /run/a and has written /run/a.pid", "name the socket by the worker", "leave the PID file out",
		}},
	} {
		got := x.c.Say(7, x.binds)
		if x.want == nil && got != "" {
			t.Errorf("%+v: %q", x.c, got)
		}
		for _, want := range x.want {
			if !strings.Contains(got, want) {
				t.Errorf("%q does not say %q", got, want)
			}
		}
	}
}
