package serve

import (
	"net"
	"sync"

	"github.com/masterd/masterd/pkg/worker/internal/measure"
	"github.com/masterd/masterd/pkg/worker/internal/migrate"
)

// connTracker knows every open connection of one kind. http.Server knows some of
// them too, but forgets those that were hijacked, and its ConnState hook can
// say "closed" twice; here each is removed once.
type connTracker struct {
	onEmpty func() // called when the last has been removed

	mu      sync.Mutex
	members map[net.Conn]*measure.Listener // whose they are; nil: nobody counts that
	joined  uint64
}

func newConnTracker(onEmpty func()) *connTracker {
	return &connTracker{onEmpty: onEmpty, members: make(map[net.Conn]*measure.Listener)}
}

func (t *connTracker) add(m net.Conn, of *measure.Listener) {
	t.mu.Lock()
	t.members[m] = of
	t.joined++
	if of != nil {
		of.Open.Add(1)
	}
	t.mu.Unlock()
}

// remove may be called again; only the first counts.
func (t *connTracker) remove(m net.Conn) {
	t.mu.Lock()
	of, was := t.members[m]
	delete(t.members, m)
	if of != nil {
		of.Open.Add(-1)
	}
	last := was && len(t.members) == 0
	t.mu.Unlock()
	if last {
		t.onEmpty()
	}
}

// Len is how many are open.
func (t *connTracker) Len() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.members)
}

// accepted is how many there ever were.
func (t *connTracker) accepted() uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.joined
}

func (t *connTracker) snapshot() []net.Conn {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := make([]net.Conn, 0, len(t.members))
	for m := range t.members {
		all = append(all, m)
	}
	return all
}

// migratable are those that could go to another worker.
func (t *connTracker) migratable() []*migrate.Conn {
	var ms []*migrate.Conn
	for _, m := range t.snapshot() {
		if mv := migrate.Of(m); mv != nil {
			ms = append(ms, mv)
		}
	}
	return ms
}

// closeAll closes all and tells how many there were.
func (t *connTracker) closeAll() int {
	all := t.snapshot()
	for _, m := range all {
		m.Close()
	}
	return len(all)
}

// A connection is counted from accept to its first Close, whoever calls that:
// the server, a handler that hijacked it, or the drain at its deadline.

// track counts a client's connection of the listener, which s permits, and returns it as it is
// served. The listener's sender may give it to another worker.
func (t *connTracker) track(nc net.Conn, l *Listener, s *permit) net.Conn {
	var conn net.Conn
	closed := func() {
		t.remove(conn)
		s.release()
	}
	if conn = migrate.Wrap(nc, l.Name, l.sender, closed); conn == nil {
		conn = &otherConn{nc, closed}
	}
	t.add(conn, l.counts)
	return conn
}

// trackProbe counts a health check's connection.
func (t *connTracker) trackProbe(nc net.Conn) net.Conn {
	p := &probeConn{otherConn{Conn: nc}}
	p.closed = func() { t.remove(p) }
	t.add(p, nil)
	return p
}

// otherConn is any connection that cannot move.
type otherConn struct {
	net.Conn
	closed func()
}

func (c *otherConn) Close() error {
	err := c.Conn.Close()
	c.closed()
	return err
}

// probeConn is one end of a socketpair that the master speaks HTTP over. It
// has no address; frameworks that split RemoteAddr into host and port get one.
type probeConn struct{ otherConn }

func (c *probeConn) LocalAddr() net.Addr  { return loopbackAddr() }
func (c *probeConn) RemoteAddr() net.Addr { return loopbackAddr() }

func loopbackAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)} }
