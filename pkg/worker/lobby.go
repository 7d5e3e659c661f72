package worker

import (
	"net/http"
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
		d.passed.put(c)
		return
	}
	if t := d.idleTimeout(); t > 0 {
		m.setReadDeadline(time.Now().Add(t))
	}
	d.serving.Go(func() {
		if err := m.await(nil, m.readable); err != nil {
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
		for {
			_, _, err := unix.Recvfrom(int(fd), b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
			switch err {
			case unix.EAGAIN:
				return false
			case unix.EINTR:
			default:
				return true // also an error: the server finds it
			}
		}
	})
}
