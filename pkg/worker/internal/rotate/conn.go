package rotate

import (
	"errors"
	"io"
	"net"
	"sync/atomic"
	"syscall"
	"time"
)

// firstUseConn is a connection that one of the program's own servers has accepted. It
// knows whether the server has begun with it.
type firstUseConn struct {
	net.Conn
	by   *instance
	used atomic.Bool
}

func (c *firstUseConn) markUsed() {
	if c.used.Load() || c.used.Swap(true) {
		return
	}
	s := c.by.rotator
	s.mu.Lock()
	c.by.unstarted--
	s.cond.Broadcast()
	s.mu.Unlock()
}

func (c *firstUseConn) Read(b []byte) (int, error) {
	c.markUsed()
	return c.Conn.Read(b)
}

func (c *firstUseConn) Write(b []byte) (int, error) {
	c.markUsed()
	return c.Conn.Write(b)
}

func (c *firstUseConn) Close() error {
	c.markUsed()
	return c.Conn.Close()
}

func (c *firstUseConn) SetDeadline(t time.Time) error {
	c.markUsed()
	return c.Conn.SetDeadline(t)
}

func (c *firstUseConn) SetReadDeadline(t time.Time) error {
	c.markUsed()
	return c.Conn.SetReadDeadline(t)
}

func (c *firstUseConn) SetWriteDeadline(t time.Time) error {
	c.markUsed()
	return c.Conn.SetWriteDeadline(t)
}

// What TCP and Unix connections can do besides stays possible: sendfile(2) and
// splice(2), half a close, socket options.

func (c *firstUseConn) ReadFrom(r io.Reader) (int64, error) {
	c.markUsed()
	return io.Copy(c.Conn, r)
}

func (c *firstUseConn) WriteTo(w io.Writer) (int64, error) {
	c.markUsed()
	return io.Copy(w, c.Conn)
}

func (c *firstUseConn) CloseWrite() error {
	c.markUsed()
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}

func (c *firstUseConn) SyscallConn() (syscall.RawConn, error) {
	c.markUsed()
	if raw, ok := c.Conn.(syscall.Conn); ok {
		return raw.SyscallConn()
	}
	return nil, errors.ErrUnsupported
}
