package ipc

import (
	"errors"
	"io"
	"net"
	"runtime"
	"sync/atomic"
	"syscall"
	"time"
)

// A descriptor that somebody else has sent is closed beside whoever received it. How
// long close(2) takes is up to whoever opened the file: a TCP socket with SO_LINGER
// waits until its data is acknowledged, a file of a FUSE file system until its server
// answers. The kernel closes as well: what is queued in a Unix socket that is closed
// (and that may be one which was sent), and what a message brings to a read that has no
// room for it. The thread that makes such a call waits for it.

const (
	// maxClosing is how many closes may be under way at one time. Each that hangs costs
	// a thread, and the Go runtime ends a process that has 10,000. What comes later
	// stays open until one of them returns.
	maxClosing = 256
	// maxQueued bounds the messages that are taken out of a socket before it is closed.
	maxQueued = 4096
	// closeWait is how long CloseInTime waits.
	closeWait = time.Second
)

// lingerMost is how long one close waits for a socket's data to be acknowledged.
var lingerMost = 100 * time.Millisecond

var (
	closing   = make(chan struct{}, maxClosing)
	discarded atomic.Int64 // closes that were begun or wait to be
)

// Closing tells how many closes are under way or wait to be, and how many may be under
// way at one time. Usually there are none.
func Closing() (now, most int) { return int(discarded.Load()), maxClosing }

// Discard closes descriptors that somebody else has made, and does not wait for it. They
// are not the caller's any more.
func Discard(fds ...int) { discard(fds) }

// DiscardWait is Discard, and waits until the descriptors are closed, or stop is closed.
// Who reads from a peer uses it, so that the peer cannot have more of them open here than
// one message brings.
func DiscardWait(stop <-chan struct{}, fds ...int) {
	if len(fds) == 0 {
		return
	}
	select {
	case <-discard(fds):
	case <-stop: // nil: never
	}
}

func discard(fds []int) (done <-chan struct{}) {
	if len(fds) == 0 {
		return nil
	}
	return closeLater(func() {
		for _, fd := range fds {
			_ = syscall.Close(fd)
		}
	})
}

// CloseCopies closes copies of what the caller has passed on, and waits for it. They have
// no place among the closes that may hang: whoever waits for their end would wait for
// those, too.
func CloseCopies(fds ...int) {
	if len(fds) == 0 {
		return
	}
	lingerless(func() { // it may have the last copy by now
		for _, fd := range fds {
			_ = syscall.Close(fd)
		}
	})
}

// lingerless makes a call that closes. Its sockets with SO_LINGER, also those that are
// queued in others, wait for lingerMost at most: the wait ends as soon as the thread gets
// a signal, and the kernel still sends the data. To switch the option off would be no
// better: it is the open file's, which others may be using.
func lingerless(f func()) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	interrupt, over := interrupter(), make(chan struct{})
	defer close(over)
	go func(every time.Duration) {
		tick := time.NewTicker(every) // once could be before the wait
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				interrupt()
			case <-over:
				return
			}
		}
	}(lingerMost)
	f()
}

// closeLater makes a call that closes, once there is a place for it.
func closeLater(f func()) (done <-chan struct{}) {
	over := make(chan struct{})
	discarded.Add(1)
	go func() { // ends when the kernel lets it
		closing <- struct{}{}
		lingerless(f)
		<-closing
		discarded.Add(-1)
		close(over)
	}()
	return over
}

// DiscardConn closes a connection that nobody else has, with what is queued in it.
func DiscardConn(fd int) {
	_ = syscall.Shutdown(fd, syscall.SHUT_RDWR)
	closeLater(func() {
		closeQueued(fd)
		_ = syscall.Close(fd)
	})
}

// CloseConn closes a connection by which others can send descriptors. Both sides notice
// at once; it does not wait for the close itself.
func CloseConn(c *net.UnixConn) {
	raw, err := c.SyscallConn()
	if err == nil {
		_ = raw.Control(func(fd uintptr) { _ = syscall.Shutdown(int(fd), syscall.SHUT_RDWR) })
	}
	_ = c.SetDeadline(time.Unix(1, 0)) // ends a read or write that is under way
	closeLater(func() {
		if err == nil {
			_ = raw.Control(func(fd uintptr) { closeQueued(int(fd)) })
		}
		_ = c.Close()
	})
}

// CloseInTime calls a function that closes sockets. It waits for it only for a second, and
// then returns nil.
func CloseInTime(f func() error) error {
	result := make(chan error, 1)
	go func() { result <- f() }() // ends when the kernel lets it
	limit := time.NewTimer(closeWait)
	defer limit.Stop()
	select {
	case err := <-result:
		return err
	case <-limit.C:
		return nil
	}
}

// Stream is a Unix stream whose other side is to send no descriptors. The first that it
// sends ends the connection. A plain read would have the kernel close them.
type Stream struct{ *net.UnixConn }

var errBroughtFDs = errors.New("it has sent descriptors, which nobody takes here")

// Guard makes a Stream of a Unix connection, and returns others as they are.
func Guard(c net.Conn) net.Conn {
	if u, ok := c.(*net.UnixConn); ok {
		return Stream{u}
	}
	return c
}

// Read is net.Conn's.
func (s Stream) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	oob := make([]byte, rightsSpace(MaxFDs))
	n, oobn, _, _, err := s.ReadMsgUnix(p, oob)
	if fds := parseRights(oob[:max(oobn, 0)]); len(fds) > 0 {
		CloseConn(s.UnixConn) // each byte could bring others
		Discard(fds...)
		return 0, errBroughtFDs
	}
	if errors.Is(err, io.EOF) {
		err = io.EOF // which net wraps here
	}
	return max(n, 0), err // -1 with an error: bufio panics of it
}

// Close does not wait for what is queued to be closed.
func (s Stream) Close() error {
	CloseConn(s.UnixConn)
	return nil
}
