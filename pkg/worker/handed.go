package worker

import (
	"errors"
	"io"
	"net"
	"sync/atomic"
	"syscall"
	"time"
)

// handed is a connection that one of the program's own servers has accepted. It
// knows whether the server has begun with it.
type handed struct {
	net.Conn
	sh      *shift
	touched atomic.Bool
}

func (c *handed) touch() {
	if c.touched.Load() || c.touched.Swap(true) {
		return
	}
	s := c.sh.of
	s.mu.Lock()
	c.sh.untouched--
	s.cond.Broadcast()
	s.mu.Unlock()
}

func (c *handed) Read(b []byte) (int, error) {
	c.touch()
	return c.Conn.Read(b)
}

func (c *handed) Write(b []byte) (int, error) {
	c.touch()
	return c.Conn.Write(b)
}

func (c *handed) Close() error {
	c.touch()
	return c.Conn.Close()
}

func (c *handed) SetDeadline(t time.Time) error {
	c.touch()
	return c.Conn.SetDeadline(t)
}

func (c *handed) SetReadDeadline(t time.Time) error {
	c.touch()
	return c.Conn.SetReadDeadline(t)
}

func (c *handed) SetWriteDeadline(t time.Time) error {
	c.touch()
	return c.Conn.SetWriteDeadline(t)
}

// What TCP and Unix connections can do besides stays possible: sendfile(2) and
// splice(2), half a close, socket options.

func (c *handed) ReadFrom(r io.Reader) (int64, error) {
	c.touch()
	return io.Copy(c.Conn, r)
}

func (c *handed) WriteTo(w io.Writer) (int64, error) {
	c.touch()
	return io.Copy(w, c.Conn)
}

func (c *handed) CloseWrite() error {
	c.touch()
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}

func (c *handed) SyscallConn() (syscall.RawConn, error) {
	c.touch()
	if raw, ok := c.Conn.(syscall.Conn); ok {
		return raw.SyscallConn()
	}
	return nil, errors.ErrUnsupported
}
