package process

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestSockets(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	f, err := l.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		t.Fatal(err)
	}
	all, err := Sockets(os.Getpid())
	if err != nil || all[int(f.Fd())] != st.Ino {
		t.Errorf("%v, %v, want %d", all, err, st.Ino)
	}
	if pid := WithSocket(st.Ino); pid != os.Getpid() {
		t.Errorf("process %d has it", pid)
	}
	file, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if _, err := Socket(os.Getpid(), int(file.Fd())); err == nil {
		t.Error("a file is a socket")
	}
	if pid := WithSocket(0); pid != 0 {
		t.Errorf("process %d has no socket", pid)
	}
}

// A name is whatever its maker likes: no socket of another user's keeps ours from being found.
func TestUnixSocketsBesideHostileNames(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"two\nlines", "\n", "a\n\nffff: 00000002 x\n", "blank s", "ours"} {
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		path := filepath.Join(dir, name)
		if err := unix.Bind(fd, &unix.SockaddrUnix{Name: path}); err != nil {
			t.Fatal(err)
		}
		if err := unix.Listen(fd, 1); err != nil {
			t.Fatal(err)
		}
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil {
			t.Fatal(err)
		}
		all, err := UnixSockets()
		if err != nil {
			t.Fatal(err)
		}
		found := false
		for _, s := range all {
			found = found || s.Inode == st.Ino && (s.Path == path || strings.Contains(name, "\n")) && !s.Connected
		}
		if !found {
			t.Errorf("%q is not found in %v", path, all)
		}
	}
}

func FuzzParseUnix(f *testing.F) {
	f.Add("Num       RefCount Protocol Flags    Type St Inode Path\n0000000000000000: 00000002 00000000 00010000 0001 01 12345 /run/a b\n")
	f.Add("x\n0000: 2 0 0 1 03 9 \n: : : : : 3 4 \n")
	f.Fuzz(func(t *testing.T, text string) {
		all, err := parseUnix(strings.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(text, "\n") + 1; len(all) > n {
			t.Errorf("%d sockets in %d lines", len(all), n)
		}
		for _, s := range all {
			if strings.Contains(s.Path, "\n") || !strings.Contains(text, s.Path) {
				t.Errorf("%+v", s)
			}
		}
	})
}
