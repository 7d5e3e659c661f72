package admin

import (
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/masterd/masterd/pkg/ipc"
	"github.com/masterd/masterd/pkg/ipc/fdpass"
)

// Bounds on connections.
const (
	maxPerUser = 64 // of one uid
	// goodbyeTimeout bounds the writing of a refusal to one connection too many.
	goodbyeTimeout = 100 * time.Millisecond
)

// maxConns is how many connections there can be at one time of those who may do no
// more than one, by its right: whoever has more finds places that they leave free.
var maxConns = [...]int{stranger: 16, reader: 160, operator: 224, owner: 256}

// Counts are since the start of the server.
type Counts struct {
	Accepted uint64 // connections
	Crowded  uint64 // turned away: there were too many
	Refused  uint64 // requests that the peer had no right to make
	Unknown  uint64 // connections whose peer the kernel did not name
}

// conn is a connection whose peer is known.
type conn struct {
	net.Conn
	cred  ipc.Cred
	role  role        // when it came
	asked atomic.Bool // a request of it is counted in Server.requests
	crowd *crowd
}

// Close may come several times.
func (c *conn) Close() error {
	c.crowd.mu.Lock()
	delete(c.crowd.conns, c)
	c.crowd.mu.Unlock()
	return c.Conn.Close()
}

// crowd is all open connections, within their bounds.
type crowd struct {
	mu    sync.Mutex
	conns map[*conn]bool
	n     Counts
}

// enter lets a connection in if there is a place for it.
func (w *crowd) enter(c *conn) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	user, role := 0, 0
	for o := range w.conns {
		if o.cred.UID == c.cred.UID {
			user++
		}
		if o.role <= c.role {
			role++
		}
	}
	if user >= maxPerUser || role >= maxConns[c.role] {
		w.n.Crowded++
		return false
	}
	w.n.Accepted++
	w.conns[c] = true
	return true
}

func (w *crowd) count(f func(*Counts)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f(&w.n)
}

// door is the listener that net/http accepts from: what comes through it is
// known and within bounds.
type door struct {
	*net.UnixListener
	s *Server
}

// Accept never returns an error for the sake of one connection.
func (d door) Accept() (net.Conn, error) {
	for {
		u, err := d.AcceptUnix()
		if err != nil {
			return nil, err
		}
		cred, err := d.s.peer(u)
		if err != nil {
			d.s.crowd.count(func(n *Counts) { n.Unknown++ })
			fdpass.CloseConn(u)
			continue
		}
		c := &conn{Conn: fdpass.Stream{UnixConn: u}, cred: cred, role: d.s.access.Load().role(cred), crowd: &d.s.crowd}
		if d.s.crowd.enter(c) {
			return c, nil
		}
		turnAway(c.Conn)
	}
}

// turnAway answers without reading: there is nobody left to read for. The
// socket's buffer takes it at once; the deadline is for one that would not.
func turnAway(c net.Conn) {
	const body = `{"error":"Too many connections to the admin socket are being answered; try again."}` + "\n"
	c.SetWriteDeadline(time.Now().Add(goodbyeTimeout))
	c.Write([]byte("HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n" + body))
	c.Close()
}
