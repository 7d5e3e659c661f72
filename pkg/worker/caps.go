package worker

import (
	"net"
	"net/netip"
	"slices"
	"sync"
)

// MaxConns bounds how many connections of clients the listener has open in this
// process; zero, the default: nothing does. Over it nothing more is accepted until one
// has ended: who comes waits in the kernel's queue, and is served late but not refused.
// (Each of its sockets may take one more, if it waits for one while others fill the
// listener.) Idle connections count, so that one client can keep all others waiting:
// give [MaxConnsPerAddress] too.
//
// Connections that another worker hands over, that the master passes, or that a drain
// takes from a queue which is about to close, are counted and never held back: there
// is nowhere else where they could wait. While two versions run each counts its own.
func MaxConns(n int) ListenerOption {
	return func(l *listener) { l.maxConns = n }
}

// MaxConnsPerAddress bounds how many connections one client address has open on
// the listener in this process; zero, the default: nothing does. An IPv6 client has as
// many addresses as it likes, so there the first 64 bits count as one. One more is
// reset as soon as it is accepted, before TLS and without a goroutine: it shall not
// wait in the queue, where all others stand behind it.
//
// A connection that is open is never closed for it: one that another worker hands
// over is counted and kept, and its address gets no new one until it is below the bound.
// Clients behind one load balancer, proxy or NAT are one address. Unix sockets have none.
func MaxConnsPerAddress(n int) ListenerOption {
	return func(l *listener) { l.maxPerAddress = n }
}

// ipv6Network is how many bits of an IPv6 address stand for one client.
const ipv6Network = 64

// caps count the connections of clients on one listener, where they are bounded.
type caps struct {
	most, perAddress int // zero: no bound

	mu      sync.Mutex
	open    int
	from    map[netip.Addr]int // only with perAddress
	waiting []*acceptor        // for room
}

// newCaps is nil where nothing is bounded.
func newCaps(most, perAddress int) *caps {
	if most <= 0 && perAddress <= 0 {
		return nil
	}
	return &caps{most: max(0, most), perAddress: max(0, perAddress), from: map[netip.Addr]int{}}
}

// full has the acceptor woken once it is not.
func (c *caps) full(a *acceptor) bool {
	if c == nil || c.most == 0 {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.open < c.most {
		return false
	}
	if !slices.Contains(c.waiting, a) {
		c.waiting = append(c.waiting, a)
	}
	return true
}

// seat is the place of one connection in the caps of its listener.
type seat struct {
	of    *caps
	from  netip.Addr // invalid: it is not counted by address
	freed bool
}

// sit counts a connection. One that is new, not handed over, is refused where its
// address has too many.
func (c *caps) sit(nc net.Conn, isNew bool) (s *seat, ok bool) {
	if c == nil {
		return nil, true
	}
	s = &seat{of: c}
	if t, ok := nc.RemoteAddr().(*net.TCPAddr); ok && c.perAddress > 0 {
		s.from = clientOf(t.AddrPort().Addr())
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.from.IsValid() {
		if isNew && c.from[s.from] >= c.perAddress {
			return nil, false
		}
		c.from[s.from]++
	}
	c.open++
	return s, true
}

// clientOf is the address that stands for all of one client's.
func clientOf(a netip.Addr) netip.Addr {
	if a = a.Unmap().WithZone(""); a.Is6() {
		if p, err := a.Prefix(ipv6Network); err == nil {
			return p.Addr()
		}
	}
	return a
}

// free ends the count. It may be called again, and of none.
func (s *seat) free() {
	if s == nil {
		return
	}
	c := s.of
	c.mu.Lock()
	var wake []*acceptor
	if !s.freed {
		s.freed = true
		if c.open--; c.open < c.most {
			wake, c.waiting = c.waiting, nil
		}
		if s.from.IsValid() {
			if c.from[s.from]--; c.from[s.from] == 0 {
				delete(c.from, s.from) // the map is as large as what is open
			}
		}
	}
	c.mu.Unlock()
	for _, a := range wake {
		a.lookAgain()
	}
}

// reset closes a connection so that nothing of it is left, in TIME_WAIT neither.
func reset(nc net.Conn) {
	if t, ok := nc.(*net.TCPConn); ok {
		t.SetLinger(0)
	}
	nc.Close()
}
