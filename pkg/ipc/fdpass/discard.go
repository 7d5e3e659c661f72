package fdpass

import (
	"errors"
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
	// hangsAfter is how many signals a close outlives that hangs.
	hangsAfter = 5
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
	hang      atomic.Int64 // those that no signal has ended
)

// Closing tells how many closes are under way or wait to be, and how many may be under
// way at one time. Usually there are none.
func Closing() (now, most int) { return int(discarded.Load()), maxClosing }

// Hanging tells how many have been under way for so long that no signal ends them. A
// process that has such a thread cannot end, nor become another program: either waits for
// all threads, and one that closes a file of a FUSE file system ends when the server
// of that has answered, or is gone, and not before.
func Hanging() int { return int(hang.Load()) }

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

// Await makes a call about such a descriptor that can hang as its close can (whoever
// serves its file system is asked), and counts it with the closes. false: stop was closed
// before, and the call may still be under way.
func Await(stop <-chan struct{}, call func()) bool {
	select {
	case <-closeLater(call):
		return true
	case <-stop:
		return false
	}
}

func discard(fds []int) (done <-chan struct{}) {
	if len(fds) == 0 {
		return nil
	}
	return closeLater(func() { Close(fds...) })
}

// CloseCopies closes copies of what the caller has passed on, and waits for it. They have
// no place among the closes that may hang: whoever waits for their end would wait for
// those, too.
func CloseCopies(fds ...int) {
	if len(fds) == 0 {
		return
	}
	lingerless(func() { Close(fds...) }) // they may be the last by now
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
		for n := 1; ; n++ {
			select {
			case <-tick.C:
				if interrupt(); n == hangsAfter {
					hang.Add(1)
					defer hang.Add(-1)
				}
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
		Close(fd)
	})
}

// CloseConn closes a connection by which others can send descriptors. Both sides notice
// at once; it does not wait for the close itself.
func CloseConn(c *net.UnixConn) {
	_ = Control(c, func(fd int) error { return syscall.Shutdown(fd, syscall.SHUT_RDWR) })
	_ = c.SetDeadline(time.Unix(1, 0)) // ends a read or write that is under way
	closeLater(func() {
		_ = Control(c, func(fd int) error { closeQueued(fd); return nil })
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
	n, fds, err := ReadStream(s.UnixConn, p)
	if len(fds) > 0 {
		CloseConn(s.UnixConn) // each byte could bring others
		Discard(fds...)
		return 0, errBroughtFDs
	}
	return n, err
}

// Close does not wait for what is queued to be closed.
func (s Stream) Close() error {
	CloseConn(s.UnixConn)
	return nil
}
