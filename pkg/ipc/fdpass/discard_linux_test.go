package fdpass

import (
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// lingering is a TCP socket of which close(2) takes 120 s, until release is called.
func lingering(t *testing.T) (fd int, release func()) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	peer, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	_ = peer.(*net.TCPConn).SetReadBuffer(1 << 10)
	_ = c.(*net.TCPConn).SetWriteBuffer(1 << 10)
	f, err := c.(*net.TCPConn).File()
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	fd, err = unix.Dup(int(f.Fd()))
	f.Close()
	if err == nil {
		err = unix.SetNonblock(fd, true)
	}
	for err == nil {
		_, err = unix.Write(fd, make([]byte, 1<<16))
	}
	if err != unix.EAGAIN {
		t.Fatal(err)
	}
	if err := unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1, Linger: 120}); err != nil {
		t.Fatal(err)
	}
	release = func() { // its other end resets it
		_ = peer.(*net.TCPConn).SetLinger(0)
		peer.Close()
	}
	t.Cleanup(release)
	return fd, release
}

// hanging is a queued one of which nothing ends the wait.
func hanging(t *testing.T) (fd int, release func()) {
	t.Helper()
	if was := lingerMost; was != time.Hour {
		settled(t) // what is being closed looks at it
		lingerMost = time.Hour
		t.Cleanup(func() { settled(t); lingerMost = was })
	}
	return queued(t)
}

// queued is a Unix socket in whose queue there is a lingering one.
func queued(t *testing.T) (fd int, release func()) {
	t.Helper()
	inner, release := lingering(t)
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Sendmsg(fds[0], []byte("x"), unix.UnixRights(inner), nil, 0); err != nil {
		t.Fatal(err)
	}
	unix.Close(fds[0])
	unix.Close(inner)
	return fds[1], release
}

// soon fails a test in which something waits for somebody else's descriptor.
func soon(t *testing.T, what string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() { f(); close(done) }()
	select {
	case <-done:
	case <-time.After(patience):
		t.Fatal(what + " waits")
	}
}

// closingNow waits until so many closes are under way.
func closingNow(t *testing.T, want int) {
	t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		now, _ := Closing()
		if now == want {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%d closes are under way, not %d", now, want)
		}
	}
}

// settled waits until nothing is being closed.
func settled(t *testing.T) { t.Helper(); closingNow(t, 0) }

func TestALingeringSocketIsClosedAtOnce(t *testing.T) {
	fd, _ := lingering(t)
	soon(t, "its close", func() { DiscardWait(nil, fd) })
	fd, _ = queued(t)
	soon(t, "the close of one that is queued", func() { DiscardWait(nil, fd) })
	fd, _ = lingering(t)
	soon(t, "the close of a copy", func() { CloseCopies(fd) })
}

// Others go on using what is closed here, as they have set it up.
func TestAnotherCopyKeepsItsOptions(t *testing.T) {
	fd, _ := lingering(t)
	copied, err := unix.Dup(fd)
	if err != nil {
		t.Fatal(err)
	}
	DiscardWait(nil, copied)
	if l, err := unix.GetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER); err != nil || l.Onoff == 0 || l.Linger != 120 {
		t.Errorf("%+v, %v", l, err)
	}
	DiscardWait(nil, fd)
}

func TestAHangingCloseIsNotWaitedFor(t *testing.T) {
	fd, release := hanging(t)
	other, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	n, _ := unix.Dup(int(w.Fd()))
	w.Close()
	soon(t, "Discard", func() { Discard(fd) })
	soon(t, "the end of another's pipe", func() {
		Discard(n)
		_, _ = other.Read(make([]byte, 1))
	})
	closingNow(t, 1)
	stop := make(chan struct{})
	close(stop)
	fd2, release2 := hanging(t)
	soon(t, "DiscardWait, after it was stopped,", func() { DiscardWait(stop, fd2) })
	release()
	release2()
	settled(t)
}

// However many hang, so many threads do, and the rest stays open.
func TestHangingClosesAreBounded(t *testing.T) {
	var release []func()
	for range maxClosing + 10 {
		fd, r := hanging(t)
		release = append(release, r)
		soon(t, "Discard", func() { Discard(fd) })
	}
	mine, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer mine.Close()
	n, _ := unix.Dup(int(w.Fd()))
	w.Close()
	CloseCopies(n)
	soon(t, "the end of what was passed on", func() { _, _ = mine.Read(make([]byte, 1)) })
	if now, most := Closing(); now <= most || len(closing) > most { // a signal of the runtime may have ended one
		t.Errorf("%d of %d are closed at once", len(closing), now)
	}
	for _, r := range release {
		r()
	}
	settled(t)
}

// What is lost, and what is queued when the connection is closed, may hang.
func TestAConnDoesNotWaitForWhatItsPeerSends(t *testing.T) {
	here, there := conns(t, 16, 0)
	send := func() (release func()) {
		fd, release := hanging(t)
		if err := there.Send(patience, []byte("x"), fd); err != nil {
			t.Fatal(err)
		}
		unix.Close(fd)
		return release
	}
	send()()
	if p, err := here.Receive(); err != nil || !p.Lost {
		t.Errorf("%+v, %v", p, err)
	}
	here, there = conns(t, 16, 2)
	first, second := send(), send()
	got := make(chan error, 1)
	go func() {
		p, err := here.Receive()
		DiscardWait(nil, p.FDs...)
		got <- err
	}()
	closingNow(t, 1)
	soon(t, "Close", func() { _ = here.Close() })
	soon(t, "the other side", func() {
		if _, err := there.Receive(); !errors.Is(err, io.EOF) {
			t.Error(err)
		}
	})
	first()
	second()
	soon(t, "Receive", func() {
		if err := <-got; err != nil {
			t.Error(err)
		}
	})
	settled(t)
}

// However short the pieces are in which it is sent, one answer brings descriptors once.
func TestAStreamTakesNoDescriptors(t *testing.T) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fds[0])
	f := os.NewFile(uintptr(fds[1]), "")
	c, err := net.FileConn(f)
	f.Close()
	if err != nil {
		t.Fatal(err)
	}
	s := Guard(c)
	fd, release := hanging(t)
	for range 20 { // one is read, the others are queued when it is closed
		if err := unix.Sendmsg(fds[0], []byte("ab"), unix.UnixRights(fd), nil, 0); err != nil {
			t.Fatal(err)
		}
	}
	unix.Close(fd)
	soon(t, "Read", func() {
		if n, err := s.Read(make([]byte, 1)); n != 0 || !errors.Is(err, errBroughtFDs) {
			t.Error(n, err)
		}
		if n, err := s.Read(make([]byte, 1)); n != 0 || err == nil {
			t.Errorf("%d bytes after the connection was ended", n)
		}
	})
	soon(t, "the other side", func() {
		if n, err := unix.Read(fds[0], make([]byte, 1)); n > 0 || err == unix.EAGAIN {
			t.Error(n, err)
		}
	})
	soon(t, "Close", func() { _ = s.Close() })
	release()
	settled(t)
}

// What came to an end is said as any connection says it: a reader that was told of -1
// bytes panics, and one that is told of an end by another name takes it for a fault.
func TestTheEndOfAStream(t *testing.T) {
	for name, test := range map[string]struct {
		write bool // what the other side has not read when it closes
		want  error
	}{"closed": {false, io.EOF}, "reset": {true, unix.ECONNRESET}} {
		fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		f := os.NewFile(uintptr(fds[0]), "")
		c, err := net.FileConn(f)
		_ = f.Close()
		if err != nil {
			t.Fatal(err)
		}
		s := Guard(c)
		if test.write {
			_, _ = s.Write([]byte("x"))
		}
		_ = unix.Close(fds[1])
		n, err := s.Read(make([]byte, 1))
		if n != 0 || !errors.Is(err, test.want) || test.want == io.EOF && err != io.EOF {
			t.Errorf("%s: %d bytes, %v", name, n, err)
		}
		_ = s.Close()
	}
}
