package fdpass

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// patience of tests: for what should come at once, on a machine that is busy.
const patience = 20 * time.Second

// conns are both ends of a connection, for packets of so many bytes and descriptors.
func conns(t *testing.T, bytes, fds int) (a, b *Conn) {
	t.Helper()
	one, two, err := Pair(unix.SOCK_SEQPACKET)
	if err != nil {
		t.Fatal(err)
	}
	for fd, c := range map[int]**Conn{one: &a, two: &b} {
		conn, err := ConnOf(fd)
		if err == nil {
			*c, err = New(conn.(*net.UnixConn), bytes, fds)
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { (*c).Close() })
	}
	return a, b
}

// Packets of any length arrive whole, whether each is asked for its length or not, and
// one that is too long is said to be.
func TestPackets(t *testing.T) {
	for _, limit := range []int{100, smallPacket - 1, smallPacket, 64 << 10} {
		a, b := conns(t, limit, 2)
		for _, n := range []int{1, limit / 2, limit, limit + 1, 2 * limit, 3} {
			want := bytes.Repeat([]byte{byte(n)}, n)
			if err := a.Send(patience, want, 0, 1); err != nil {
				t.Fatal(err)
			}
			p, err := b.Receive()
			if err != nil || p.Long != (n > limit) || p.Lost || len(p.FDs) != 2 || !p.Long && !bytes.Equal(p.Data, want) {
				t.Errorf("limit %d: %d of %d bytes, long %v, lost %v, descriptors %v, %v", limit, len(p.Data), n, p.Long, p.Lost, p.FDs, err)
			}
			for _, fd := range p.FDs {
				if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
					t.Errorf("a child would inherit it (%v)", err)
				}
			}
			Close(p.FDs...)
		}
		if err := a.Send(patience, []byte("x"), 0, 1, 2, 2); err != nil {
			t.Fatal(err)
		}
		if p, err := b.Receive(); err != nil || !p.Lost || len(p.FDs) > 2 {
			t.Errorf("more than the limit of descriptors: %+v, %v", p, err)
		} else {
			Close(p.FDs...)
		}
		a.Close()
		if _, err := b.Receive(); !errors.Is(err, io.EOF) {
			t.Error(err)
		}
		if _, err := a.Receive(); !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
		if err := a.Send(patience, []byte("x")); !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
	}
}

// A name leads to its file until that is removed, and to no other one of that name.
func TestNamed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	if Name(path).Found() {
		t.Error("found before there was one")
	}
	fd, err := Bind(path, unix.SOCK_DGRAM, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer Close(fd)
	if info, err := os.Lstat(path); err != nil || info.Mode() != os.ModeSocket|0o600 {
		t.Errorf("%v, %v", info, err)
	}
	name := Name(path)
	if !name.Found() || (Named{}).Found() {
		t.Error("not found, or nothing found")
	}
	if err := os.Rename(path, path+"-other"); err != nil {
		t.Fatal(err)
	}
	if name.Found() {
		t.Error("found without a name")
	}
	again, err := Bind(path, unix.SOCK_DGRAM, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer Close(again)
	if name.Found() {
		t.Error("another one is taken for it")
	}
	if _, err := Bind(path, unix.SOCK_DGRAM, 0o600); !errors.Is(err, unix.EADDRINUSE) {
		t.Error(err)
	}
}

// What is no connection is taken over, too, and what is one is nobody's number any more.
func TestConnOfTakesOver(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	fd, err := DuplicateOf(w)
	w.Close()
	if err != nil || fd < firstCopy {
		t.Fatal(fd, err)
	}
	if _, err := ConnOf(fd); !errors.Is(err, unix.ENOTSOCK) {
		t.Error(err)
	}
	_ = r.SetReadDeadline(time.Now().Add(patience))
	if _, err := r.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("it is still open: %v", err)
	}
	c, its, err := StreamPair(0)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if events, err := Ready(its, unix.POLLIN, 0); events != 0 || err != nil {
		t.Errorf("before anything came: %x, %v", events, err)
	}
	if _, err := c.Write([]byte("x")); err != nil {
		t.Error(err)
	}
	if events, err := Ready(its, unix.POLLIN, patience); events != unix.POLLIN || err != nil {
		t.Errorf("%x, %v", events, err)
	}
	Close(its)
	_ = c.SetReadDeadline(time.Now().Add(patience))
	if _, fds, err := ReadStream(c, make([]byte, 1)); !errors.Is(err, unix.ECONNRESET) || fds != nil {
		t.Errorf("its other end is still open: %v, %v", fds, err)
	}
}
