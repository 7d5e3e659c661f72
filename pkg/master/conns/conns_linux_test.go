package conns

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/masterd/masterd/pkg/master/sockdiag"
)

// The test's program serves one connection after the other as it is told: "answer"
// answers what comes, "think" does not. Its children have its connections.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "serve" {
		network := "tcp"
		if filepath.IsAbs(os.Args[2]) {
			network = "unix"
		}
		l, err := net.Listen(network, os.Args[2])
		if err != nil {
			panic(err)
		}
		fmt.Println(l.Addr())
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				for lines := bufio.NewScanner(c); lines.Scan(); {
					if lines.Text() == "answer" {
						fmt.Fprintln(c, "done")
					}
				}
			}()
		}
	}
	os.Exit(m.Run())
}

func serve(t testing.TB, at string) (pid int, addr netip.AddrPort) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "serve", at)
	cmd.SysProcAttr = &unix.SysProcAttr{Setpgid: true}
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	if filepath.IsAbs(at) {
		return cmd.Process.Pid, addr
	}
	return cmd.Process.Pid, netip.MustParseAddrPort(strings.TrimSpace(line))
}

func dial(t testing.TB, at netip.AddrPort) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", at.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// eventually waits for a fact.
func eventually(t *testing.T, pid int, at netip.AddrPort, want Open) {
	t.Helper()
	for end := time.Now().Add(2 * unclearTime); ; time.Sleep(20 * time.Millisecond) {
		got, err := Of([]int{pid}, []netip.AddrPort{at}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got.Busy == want.Busy && got.Idle == want.Idle && got.Asked >= want.Asked {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%+v, want %+v", got, want)
		}
	}
}

func TestConnections(t *testing.T) {
	pid, at := serve(t, "127.0.0.1:0")
	other, elsewhere := serve(t, "127.0.0.1:0")
	eventually(t, pid, at, Open{})

	thinking, answered := dial(t, at), dial(t, at)
	dial(t, elsewhere)
	fmt.Fprintln(thinking, "think")
	fmt.Fprintln(answered, "answer")
	if _, err := bufio.NewReader(answered).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	eventually(t, pid, at, Open{Busy: 2, Asked: 1})          // not quiet for long enough
	eventually(t, pid, at, Open{Busy: 1, Asked: 1, Idle: 1}) // but soon
	eventually(t, other, elsewhere, Open{Idle: 1})           // nobody has asked for anything
	eventually(t, other, at, Open{})
	fmt.Fprintln(answered, "think")
	eventually(t, pid, at, Open{Busy: 2, Asked: 2})
	_ = answered.Close()
	_ = thinking.Close()
	eventually(t, pid, at, Open{})
}

// A worker is known to have a socket by its number.
func TestHas(t *testing.T) {
	pid, at := serve(t, "127.0.0.1:0")
	var inode uint64
	if err := sockdiag.TCP(sockdiag.Query{Family: unix.AF_INET, States: 1 << sockdiag.Listen, Port: at.Port()}, func(s sockdiag.Socket) { inode = s.Inode }); err != nil {
		t.Fatal(err)
	}
	got, err := Has([]int{pid}, []uint64{1, inode, 2})
	if err != nil || len(got) != 1 || got[0] != inode {
		t.Errorf("%v, %v, want %d", got, err, inode)
	}
}

// The kernel shows one that nobody has waited for as root's.
func TestAZombieHasNone(t *testing.T) {
	child := exec.Command("/bin/true")
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = child.Wait() }()
	var info unix.Siginfo
	if err := unix.Waitid(unix.P_PID, child.Process.Pid, &info, unix.WEXITED|unix.WNOWAIT, nil); err != nil {
		t.Fatal(err)
	}
	if os.Getuid() == 0 {
		runtime.LockOSThread() // it ends with the test
		if _, err := unix.SetfsuidRetUid(65534); err != nil {
			t.Fatal(err)
		}
		if _, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", child.Process.Pid)); !errors.Is(err, os.ErrPermission) {
			t.Fatalf("looking as another user: %v", err)
		}
	}
	if err := inodes(child.Process.Pid, func(uint64) { t.Error("it has a socket") }); err != nil {
		t.Error(err)
	}
}

// Of a Unix connection nothing more is known than that it is there.
func TestUnixSockets(t *testing.T) {
	path := filepath.Join(t.TempDir(), "blank s")
	// Anybody may make sockets whose names are no lines of the kernel's table.
	hostile, err := net.Listen("unix", filepath.Join(t.TempDir(), "two\nlines"))
	if err != nil {
		t.Fatal(err)
	}
	defer hostile.Close()
	pid, _ := serve(t, path)
	look := func(want Open) {
		t.Helper()
		for end := time.Now().Add(unclearTime); ; time.Sleep(20 * time.Millisecond) {
			if got, err := Of([]int{pid}, nil, []string{path}); err != nil || got != want && time.Now().After(end) {
				t.Fatalf("%+v, %v, want %+v", got, err, want)
			} else if got == want {
				return
			}
		}
	}
	look(Open{})
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	look(Open{Busy: 1, Asked: 1})
	_ = c.Close()
	look(Open{})
}

// One that listens on all addresses, with a client by IPv4.
func TestDualStack(t *testing.T) {
	pid, at := serve(t, "[::]:0")
	c := dial(t, netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), at.Port()))
	fmt.Fprintln(c, "think")
	eventually(t, pid, at, Open{Busy: 1})
}

func TestStates(t *testing.T) {
	const bytes = 10
	for _, c := range []struct {
		what           string
		unread, unsent uint32
		sent, received uint32 // ms ago
		in, out        uint64 // bytes
		want           state
	}{
		{"between two requests", 0, 0, 1000, 1005, bytes, bytes, idle},
		{"just answered", 0, 0, 999, 1005, bytes, bytes, answered},
		{"asked, not answered", 0, 0, 5000, 2000, bytes, bytes, asked},
		{"asked and answered, or asked anew, in one tick of the clock", 0, 0, 2000, 2000, bytes, bytes, answered},
		{"the same a moment ago", 0, 0, 49, 49, bytes, bytes, asked},
		{"and quiet for long since", 0, 0, 10000, 10000, bytes, bytes, idle},
		{"never asked", 0, 0, 5000, 5000, 0, 0, idle},
		{"not asked yet", 0, 0, 4999, 4999, 0, 0, answered},
		{"just connected", 0, 0, 3, 3, 0, 0, answered},
		{"a greeting was sent", 0, 0, 3000, 4000, 0, bytes, idle},
		{"its first request is not answered", 0, 0, 10000, 10000, bytes, 0, asked},
		{"a request that nobody has read", 1, 0, 1000, 2000, bytes, bytes, asked},
		{"an answer that has not arrived", 0, 1, 1000, 2000, bytes, bytes, asked},
	} {
		s := sockdiag.Socket{Unread: c.unread, Unsent: c.unsent, Info: &unix.TCPInfo{Last_data_sent: c.sent, Last_data_recv: c.received, Bytes_received: c.in, Bytes_sent: c.out}}
		if got := stateOf(s); got != c.want {
			t.Errorf("%s: %v, want %v", c.what, got, c.want)
		}
	}
	if got := stateOf(sockdiag.Socket{}); got != asked {
		t.Errorf("of one of which nothing is known: %v", got)
	}
}
