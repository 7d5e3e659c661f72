package migrate

import (
	"errors"
	"net/http"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/masterd/masterd/pkg/ipc/fdpass"
)

// What can be known of a connection without reading from it.

// AwaitRequest waits until the client sends something, for idle at most (zero: without an
// end). False: it sent nothing in that time, or the connection has ended or has moved
// meanwhile; the caller closes it. Nobody else may use the connection.
func (c *Conn) AwaitRequest(idle time.Duration) bool {
	if idle > 0 {
		c.setReadDeadline(time.Now().Add(idle))
	}
	err := c.await(nil, c.waitReadable)
	// Its time may have been over in the moment in which a request came.
	late := errors.Is(err, os.ErrDeadlineExceeded) && c.HasUnreadInput()
	if err != nil && !late {
		return false
	}
	c.setReadDeadline(time.Time{})
	return true
}

// readAtDeadline reads the request that came in the moment in which the time for being idle
// was over: net/http is about to close the connection, which would reset it.
func (c *Conn) readAtDeadline(p []byte, over error) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.migrated || c.state != http.StateIdle || c.readSinceIdle || c.deadlines != 1 || !c.HasUnreadInput() {
		return 0, over
	}
	c.stream.SetReadDeadline(time.Time{}) // who reads now does not wait
	n, err := c.stream.Read(p)
	c.stream.SetReadDeadline(c.deadline)
	return n, err
}

// Idle: closing it would cut no request, as far as net/http knows. (Of HTTP/2
// some that could be closed are left out: those that have sent frames which
// belong to no stream since the last one ended.)
func (c *Conn) Idle() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.migrated && (c.state == http.StateNew && c.neverRead || c.state == http.StateIdle && !c.readSinceIdle)
}

// waitReadable waits until something can be read, or the end be seen, and takes
// nothing.
func (c *Conn) waitReadable() error {
	raw, err := c.stream.SyscallConn()
	if err != nil {
		return err
	}
	return raw.Read(func(fd uintptr) bool {
		var b [1]byte
		_, err := peek(fd, b[:])
		return err != unix.EAGAIN // any other error the server finds
	})
}

// HasUnreadInput tells whether the kernel has bytes of the client's that nobody has read. It
// does not wait, and it does not ask whether somebody else reads.
func (c *Conn) HasUnreadInput() (some bool) {
	_ = fdpass.Control(c.stream, func(fd int) error {
		var b [1]byte
		n, err := peek(uintptr(fd), b[:])
		some = err == nil && n > 0
		return err
	})
	return some
}

func peek(fd uintptr, b []byte) (int, error) {
	for {
		n, _, err := unix.Recvfrom(int(fd), b, unix.MSG_PEEK|unix.MSG_DONTWAIT)
		if err != unix.EINTR {
			return n, err
		}
	}
}
