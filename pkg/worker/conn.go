package worker

import (
	"io"
	"net"
	"time"
)

// A connection is counted from accept to its first Close, whoever calls that:
// the server, a handler that hijacked it, or the drain at its deadline. The
// wrapper embeds the concrete type, because io.ReaderFrom on it is what makes
// sendfile(2) and splice(2) work behind net/http. What reads, waits or ends goes
// by the mover, which knows when the connection may leave.

type tcpConn struct {
	*net.TCPConn
	mover
	in *census
}

func (c *tcpConn) Read(p []byte) (int, error)         { return c.read(p) }
func (c *tcpConn) WriteTo(w io.Writer) (int64, error) { return c.writeTo(w, c.TCPConn) }
func (c *tcpConn) SetReadDeadline(t time.Time) error  { return c.setReadDeadline(t) }
func (c *tcpConn) SetDeadline(t time.Time) error      { return c.setDeadline(t) }
func (c *tcpConn) CloseRead() error                   { return c.unlessGone(c.TCPConn.CloseRead) }
func (c *tcpConn) CloseWrite() error                  { return c.unlessGone(c.TCPConn.CloseWrite) }
func (c *tcpConn) SetLinger(sec int) error {
	return c.unlessGone(func() error { return c.TCPConn.SetLinger(sec) })
}
func (c *tcpConn) Close() error { return c.end(c, c.in) }
func (c *tcpConn) cut()         { c.Close() }
func (c *tcpConn) move() *mover { return &c.mover }

type unixConn struct {
	*net.UnixConn
	mover
	in *census
}

func (c *unixConn) Read(p []byte) (int, error)        { return c.read(p) }
func (c *unixConn) SetReadDeadline(t time.Time) error { return c.setReadDeadline(t) }
func (c *unixConn) SetDeadline(t time.Time) error     { return c.setDeadline(t) }
func (c *unixConn) CloseRead() error                  { return c.unlessGone(c.UnixConn.CloseRead) }
func (c *unixConn) CloseWrite() error                 { return c.unlessGone(c.UnixConn.CloseWrite) }
func (c *unixConn) Close() error                      { return c.end(c, c.in) }
func (c *unixConn) cut()                              { c.Close() }
func (c *unixConn) move() *mover                      { return &c.mover }

// otherConn is any connection without a type of its own here.
type otherConn struct {
	net.Conn
	seat *seat
	in   *census
}

func (c *otherConn) Close() error {
	err := c.Conn.Close()
	c.in.leave(c)
	c.seat.free()
	return err
}

func (c *otherConn) cut()         { c.Close() }
func (c *otherConn) move() *mover { return nil }

// probeConn is one end of a socketpair that the master speaks HTTP over. It
// has no address; frameworks that split RemoteAddr into host and port get one.
type probeConn struct{ otherConn }

func (c *probeConn) Close() error {
	err := c.Conn.Close()
	c.in.leave(c)
	return err
}

func (c *probeConn) cut() { c.Close() }

func (c *probeConn) LocalAddr() net.Addr  { return loopback() }
func (c *probeConn) RemoteAddr() net.Addr { return loopback() }

func loopback() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)} }

// guest is a client's connection as it is served.
type guest interface {
	net.Conn
	member
}

// admit counts a client's connection. With a handover it may leave by that.
func (c *census) admit(nc net.Conn, listener string, h *handover, s *seat) guest {
	switch nc := nc.(type) {
	case *net.TCPConn:
		t := &tcpConn{TCPConn: nc, mover: mover{stream: nc, listener: listener, handover: h, seat: s, fresh: true}, in: c}
		c.join(t)
		return t
	case *net.UnixConn:
		u := &unixConn{UnixConn: nc, mover: mover{stream: nc, listener: listener, handover: h, seat: s, fresh: true}, in: c}
		c.join(u)
		return u
	default:
		o := &otherConn{Conn: nc, seat: s, in: c}
		c.join(o)
		return o
	}
}

// admitProbe counts a health check's connection.
func (c *census) admitProbe(nc net.Conn) net.Conn {
	p := &probeConn{otherConn{Conn: nc, in: c}}
	c.join(p)
	return p
}
