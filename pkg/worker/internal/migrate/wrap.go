package migrate

import (
	"io"
	"net"
	"time"
)

// The wrappers embed the concrete type, because io.ReaderFrom on it is what makes
// sendfile(2) and splice(2) work behind net/http. What reads, waits or ends goes
// by the Conn, which knows when the connection may leave.

type tcpConn struct {
	*net.TCPConn
	Conn
}

func (c *tcpConn) Read(p []byte) (int, error)         { return c.read(p) }
func (c *tcpConn) WriteTo(w io.Writer) (int64, error) { return c.writeTo(w, c.TCPConn) }
func (c *tcpConn) SetReadDeadline(t time.Time) error  { return c.setReadDeadline(t) }
func (c *tcpConn) SetDeadline(t time.Time) error      { return c.setDeadline(t) }
func (c *tcpConn) CloseRead() error                   { return c.ifOwned(c.TCPConn.CloseRead) }
func (c *tcpConn) CloseWrite() error                  { return c.ifOwned(c.TCPConn.CloseWrite) }
func (c *tcpConn) SetLinger(sec int) error {
	return c.ifOwned(func() error { return c.TCPConn.SetLinger(sec) })
}
func (c *tcpConn) Close() error { return c.close() }

type unixConn struct {
	*net.UnixConn
	Conn
}

func (c *unixConn) Read(p []byte) (int, error)        { return c.read(p) }
func (c *unixConn) SetReadDeadline(t time.Time) error { return c.setReadDeadline(t) }
func (c *unixConn) SetDeadline(t time.Time) error     { return c.setDeadline(t) }
func (c *unixConn) CloseRead() error                  { return c.ifOwned(c.UnixConn.CloseRead) }
func (c *unixConn) CloseWrite() error                 { return c.ifOwned(c.UnixConn.CloseWrite) }
func (c *unixConn) Close() error                      { return c.close() }

// Wrap returns a client's connection as it is served: a TCP or Unix connection, which can
// leave by h (nil: it stays). It is nil for any other kind. closed is called after each
// Close of what is returned, whoever calls that.
func Wrap(nc net.Conn, listener string, h *Sender, closed func()) net.Conn {
	switch nc := nc.(type) {
	case *net.TCPConn:
		return &tcpConn{TCPConn: nc, Conn: newConn(nc, listener, h, closed)}
	case *net.UnixConn:
		return &unixConn{UnixConn: nc, Conn: newConn(nc, listener, h, closed)}
	}
	return nil
}

func newConn(s stream, listener string, h *Sender, closed func()) Conn {
	return Conn{stream: s, listener: listener, sender: h, closed: closed, neverRead: true, lot: h.acceptedLot()}
}

// Of returns the Conn of a connection that Wrap has made; nil: of another.
func Of(c net.Conn) *Conn {
	if w, ok := c.(interface{ base() *Conn }); ok {
		return w.base()
	}
	return nil
}

func (c *Conn) base() *Conn { return c }
