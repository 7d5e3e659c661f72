package worker

import (
	"errors"
	"net/http"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// linger keeps a connection that came between two requests until its next one
// begins, and only then gives it to the server: net/http would give it the time
// for the headers of a first request, not the time for being idle, and would
// hold buffers for it.
func (d *door) linger(c guest) {
	m := c.move()
	if m == nil {
		d.deliver(d.passed, c)
		return
	}
	if t := d.idleTimeout(); t > 0 {
		m.setReadDeadline(time.Now().Add(t))
	}
	d.serving.Go(func() {
		err := m.await(nil, m.readable)
		late := errors.Is(err, os.ErrDeadlineExceeded) && m.pending() // its time was over in the moment in which a request came
		if err != nil && !late {
			c.Close() // it has moved, was idle for too long, or was cut
			return
		}
		m.setReadDeadline(time.Time{})
		d.passed.put(c)
	})
}

// idleTimeout is how long net/http lets a connection be idle.
func (d *door) idleTimeout() time.Duration {
	s := d.public.(*http.Server) // only what net/http serves moves
	if s.IdleTimeout != 0 {
		return s.IdleTimeout
	}
	return s.ReadTimeout
}

// readable waits until something can be read, or the end be seen, and takes
// nothing.
func (m *mover) readable() error {
	raw, err := m.stream.SyscallConn()
	if err != nil {
		return err
	}
	return raw.Read(func(fd uintptr) bool {
		var b [1]byte
		_, err := peek(fd, b[:])
		return err != unix.EAGAIN // any other error the server finds
	})
}

// pending tells whether the kernel has bytes of the client's that nobody has read. It
// does not wait, and it does not ask whether somebody else reads.
func (m *mover) pending() (some bool) {
	raw, err := m.stream.SyscallConn()
	if err != nil {
		return false
	}
	_ = raw.Control(func(fd uintptr) {
		var b [1]byte
		n, err := peek(fd, b[:])
		some = err == nil && n > 0
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
