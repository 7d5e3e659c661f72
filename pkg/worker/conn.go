package worker

import "net"

// A connection is counted from accept to its first Close, whoever calls that:
// the server, a handler that hijacked it, or the drain at its deadline. The
// wrapper embeds the concrete type, because io.ReaderFrom on it is what makes
// sendfile(2) and splice(2) work behind net/http.

type tcpConn struct {
	*net.TCPConn
	in *census
}

func (c *tcpConn) Close() error {
	err := c.TCPConn.Close()
	c.in.leave(c)
	return err
}

func (c *tcpConn) cut() { c.Close() }

type unixConn struct {
	*net.UnixConn
	in *census
}

func (c *unixConn) Close() error {
	err := c.UnixConn.Close()
	c.in.leave(c)
	return err
}

func (c *unixConn) cut() { c.Close() }

// otherConn is any connection without a type of its own here.
type otherConn struct {
	net.Conn
	in *census
}

func (c *otherConn) Close() error {
	err := c.Conn.Close()
	c.in.leave(c)
	return err
}

func (c *otherConn) cut() { c.Close() }

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

// admit counts a client's connection.
func (c *census) admit(nc net.Conn) net.Conn {
	switch nc := nc.(type) {
	case *net.TCPConn:
		t := &tcpConn{TCPConn: nc, in: c}
		c.join(t)
		return t
	case *net.UnixConn:
		u := &unixConn{UnixConn: nc, in: c}
		c.join(u)
		return u
	default:
		o := &otherConn{Conn: nc, in: c}
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
