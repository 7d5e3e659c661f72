//go:build linux

package ipc

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

func TestTheSocketsModeAndOwner(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c")
	for _, mode := range []os.FileMode{0o600, 0o660, 0o666} {
		s, err := Listen(path, mode, os.Getuid(), os.Getgid())
		if err != nil {
			t.Fatal(err)
		}
		info, err := os.Lstat(path)
		if err != nil || info.Mode().Perm() != mode || info.Mode().Type() != os.ModeSocket {
			t.Errorf("%v instead of %v, %v", info.Mode(), mode, err)
		}
		if os.Getuid() == 0 {
			if err := s.Permit(mode, 4711, 4712); err != nil {
				t.Error(err)
			}
			var st unix.Stat_t
			if err := unix.Lstat(path, &st); err != nil || st.Uid != 4711 || st.Gid != 4712 {
				t.Errorf("owner %d:%d, %v", st.Uid, st.Gid, err)
			}
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the socket outlives its Close: %v", err)
		}
	}
}

// The file has its mode from its first moment: the kernel takes it from the
// socket, whatever the umask allows.
func TestTheModeIsSetBeforeTheSocketIsBound(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c")
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "socket")
	defer f.Close()
	raw, err := f.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if err := limitMode(raw, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		t.Fatal(err)
	}
	info, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		t.Errorf("bound with %v", mode)
	}
}

func TestAStaleSocketIsReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c")
	dead, err := net.ListenUnix(network, &net.UnixAddr{Name: path, Net: network})
	if err != nil {
		t.Fatal(err)
	}
	dead.SetUnlinkOnClose(false)
	dead.Close()
	if _, err := Dial(path); err == nil {
		t.Fatal("connected to the dead")
	}
	s, err := Listen(path, 0o600, -1, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	l, err := Dial(path)
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
}

func TestPathsThatCannotBe(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"":                                       "no path",
		file:                                     "in the way",
		filepath.Join(dir, "none", "c"):          "making the control socket",
		"/" + strings.Repeat("x", MaxPath):       "runtime_dir",
		filepath.Join(file, "below-a-file", "c"): "control socket",
	} {
		s, err := Listen(path, 0o600, -1, -1)
		if err == nil {
			s.Close()
			t.Errorf("%q: is a control socket", path)
		} else if !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v does not speak of %q", path, err, want)
		}
	}
	if b, err := os.ReadFile(file); err != nil || string(b) != "precious" {
		t.Errorf("the file in the way was touched: %q, %v", b, err)
	}
	if _, err := Dial("/" + strings.Repeat("x", MaxPath)); err == nil || !strings.Contains(err.Error(), "runtime_dir") {
		t.Error(err)
	}
}

func TestAcceptEndsWithClose(t *testing.T) {
	s, err := Listen(filepath.Join(t.TempDir(), "c"), 0o600, -1, -1)
	if err != nil {
		t.Fatal(err)
	}
	got := make(chan error)
	go func() {
		_, _, err := s.Accept()
		got <- err
	}()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if err := <-got; !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
}

func TestWhoIsThere(t *testing.T) {
	_, _, cred := connect(t)
	if cred.PID != os.Getpid() || cred.UID != uint32(os.Getuid()) || cred.GID != uint32(os.Getgid()) {
		t.Errorf("%+v is not us", cred)
	}
	groups, err := os.Getgroups()
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range groups {
		if !cred.Member(uint32(g)) {
			t.Errorf("group %d is missing in %+v", g, cred)
		}
	}
	if !cred.Member(cred.GID) || cred.Member(54321) {
		t.Errorf("%+v: membership is wrong", cred)
	}
}

// More groups than there is room for at first.
func TestWhoIsThereWithManyGroups(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root may join groups")
	}
	var want []uint32
	for g := range uint32(3 * firstGroups) {
		want = append(want, 50000+g)
	}
	s, err := Listen(filepath.Join(t.TempDir(), "c"), 0o600, -1, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	dialed := make(chan error)
	go func() {
		runtime.LockOSThread() // the groups are this thread's, and end with it
		if _, _, errno := unix.RawSyscall(unix.SYS_SETGROUPS, uintptr(len(want)), uintptr(unsafe.Pointer(&want[0])), 0); errno != 0 {
			dialed <- errno
			return
		}
		l, err := Dial(s.path)
		if err == nil {
			defer l.Close()
		}
		dialed <- err
	}()
	if err := <-dialed; err != nil {
		t.Fatal(err)
	}
	l, cred, err := s.Accept()
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	slices.Sort(cred.Groups)
	if !slices.Equal(cred.Groups, want) {
		t.Errorf("%d groups: %v", len(cred.Groups), cred.Groups)
	}
}

func TestInheritTakesNothingElse(t *testing.T) {
	a, b, err := Pair()
	if err != nil {
		t.Fatal(err)
	}
	defer closeAll([]int{a})
	right, err := InheritedAs(b, b)
	if err != nil {
		t.Fatal(err)
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	_, inode, _ := strings.Cut(right, ":")
	for _, value := range []string{"", "x", "3", ":", "-1:1", fmt.Sprintf("%d:%s", a, inode), fmt.Sprintf("%d:%s", null.Fd(), inode), fmt.Sprintf("%d:0", b), "99999999999999999999:1"} {
		if l, err := Inherit(value); err == nil {
			l.Close()
			t.Errorf("%q was taken", value)
		}
	}
	l, err := Inherit(right)
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
}

// What is asked where a kernel has no pidfd of a peer.
func TestBegun(t *testing.T) {
	me := begun(os.Getpid())
	if me == "" || me != begun(os.Getpid()) || me == begun(1) {
		t.Errorf("this process began at %q, the first one at %q", me, begun(1))
	}
	if got := begun(1 << 30); got != "" {
		t.Errorf("a process that is not there began at %q", got)
	}
}
