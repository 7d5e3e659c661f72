package admin

import (
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/masterd/masterd/pkg/ipc"
)

// Bounds on connections.
const (
	maxConns     = 256 // at one time
	reserved     = 32  // of them for root and the master's own user
	maxPerUser   = 64  // of one uid
	maxStrangers = 16  // of all who may do nothing, together
	// grace is the time that a connection has to ask something before it can
	// be evicted. A flood faster than that waits outside: the kernel's queue
	// keeps it, and the questions in the middle of it are still read.
	grace = 5 * time.Millisecond
	// goodbyeTimeout bounds the writing of a refusal to one connection too many.
	goodbyeTimeout = 100 * time.Millisecond
)

// Counts are since the start of the server.
type Counts struct {
	Accepted uint64 // connections
	Evicted  uint64 // closed before they had asked anything, to make room
	Crowded  uint64 // turned away: everybody before them was being answered
	Refused  uint64 // requests that the peer had no right to make
	Unknown  uint64 // connections whose peer the kernel did not name
}

// conn is a connection whose peer is known.
type conn struct {
	net.Conn
	cred       ipc.Cred
	role       role
	since      time.Time   // of the connection, later of the last answer; the crowd's
	asked      atomic.Bool // a request of it is counted in Server.requests
	privileged bool
	leave      func() // tells the crowd, once
}

// Close may come several times: from net/http, and from whoever evicts it.
func (c *conn) Close() error {
	c.leave()
	return c.Conn.Close()
}

// crowd is all open connections, within their bounds. Its lock is held for a
// scan of at most maxConns of them, never for a wait.
type crowd struct {
	mu    sync.Mutex
	conns []*conn        // oldest first
	busy  map[*conn]bool // from the end of a question to the end of its handler
	n     Counts
}

// enter lets a connection in, if need be in place of the oldest one that has
// nothing under way. Wait is how long that one has still to be waited for.
// Neither: everybody is being answered.
func (w *crowd) enter(c *conn) (in bool, wait time.Duration) {
	w.mu.Lock()
	out, ok := w.room(c)
	for _, old := range out {
		if c.role != stranger {
			wait = max(wait, grace-time.Since(old.since))
		}
	}
	if ok && wait > 0 {
		w.mu.Unlock()
		return false, wait
	}
	if ok {
		w.n.Accepted++
		c.leave = sync.OnceFunc(func() { w.remove(c) })
		w.conns = append(w.conns, c)
	} else {
		w.n.Crowded++
	}
	w.n.Evicted += uint64(len(out))
	w.mu.Unlock()
	for _, old := range out {
		old.Close()
	}
	return ok, 0
}

// room finds the connections that must go so that c can come.
func (w *crowd) room(c *conn) (out []*conn, ok bool) {
	total := maxConns
	if !c.privileged {
		total -= reserved
	}
	bounds := []struct {
		max  int
		same func(*conn) bool
	}{
		{maxPerUser, func(o *conn) bool { return o.cred.UID == c.cred.UID }},
		{maxStrangers, func(o *conn) bool { return c.role == stranger && o.role == stranger }},
		{total, func(*conn) bool { return true }},
	}
	for _, b := range bounds {
		n, oldest := 0, (*conn)(nil)
		for _, o := range w.conns {
			if !b.same(o) || slices.Contains(out, o) {
				continue
			}
			n++
			// Nobody makes room for those who have less right to be here.
			if oldest == nil && !w.busy[o] && rank(o) <= rank(c) {
				oldest = o
			}
		}
		if n < b.max {
			continue
		}
		if oldest == nil {
			return nil, false
		}
		out = append(out, oldest)
	}
	return out, true
}

// rank orders connections by their right to be here.
func rank(c *conn) int {
	if c.privileged {
		return int(operator) + 1
	}
	return int(c.role)
}

func (w *crowd) remove(c *conn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.busy, c)
	if i := slices.Index(w.conns, c); i >= 0 {
		w.conns = slices.Delete(w.conns, i, i+1)
	}
}

// begins marks a connection that has asked something: it is left alone.
func (w *crowd) begins(c *conn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if slices.Contains(w.conns, c) {
		w.busy[c] = true
	}
}

// ends takes the mark away. The end of the answer may still be on its way: it
// has as much time as a newcomer's question.
func (w *crowd) ends(c *conn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.busy, c)
	c.since = time.Now()
}

func (w *crowd) count(f func(*Counts)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f(&w.n)
}

func (w *crowd) counts() Counts {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.n
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
			ipc.CloseConn(u)
			continue
		}
		a := d.s.access.Load()
		c := &conn{Conn: ipc.Stream{UnixConn: u}, cred: cred, role: a.role(cred), since: time.Now(), privileged: a.privileged(cred)}
		in, wait := d.s.crowd.enter(c)
		for wait > 0 {
			time.Sleep(wait) // nobody else could come in either: not for long
			in, wait = d.s.crowd.enter(c)
		}
		if !in {
			turnAway(c.Conn)
			continue
		}
		return c, nil
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
