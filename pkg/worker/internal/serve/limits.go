package serve

import (
	"net"
	"net/netip"
	"slices"
	"sync"
)

// ipv6Network is how many bits of an IPv6 address stand for one client.
const ipv6Network = 64

// connLimits count the connections of clients on one listener, where they are bounded.
type connLimits struct {
	most, perAddress int // zero: no bound

	mu      sync.Mutex
	open    int
	from    map[netip.Addr]int // only with perAddress
	waiting []*acceptor        // for room
}

// newConnLimits is nil where nothing is bounded.
func newConnLimits(most, perAddress int) *connLimits {
	if most <= 0 && perAddress <= 0 {
		return nil
	}
	return &connLimits{most: max(0, most), perAddress: max(0, perAddress), from: map[netip.Addr]int{}}
}

// full has the acceptor woken once it is not.
func (l *connLimits) full(a *acceptor) bool {
	if l == nil || l.most == 0 {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open < l.most {
		return false
	}
	if !slices.Contains(l.waiting, a) {
		l.waiting = append(l.waiting, a)
	}
	return true
}

// permit is the place of one connection in the limits of its listener.
type permit struct {
	of    *connLimits
	from  netip.Addr // invalid: it is not counted by address
	freed bool
}

// acquire counts a connection. One that is new, not handed over, is refused where its
// address has too many.
func (l *connLimits) acquire(nc net.Conn, isNew bool) (s *permit, ok bool) {
	if l == nil {
		return nil, true
	}
	s = &permit{of: l}
	if t, ok := nc.RemoteAddr().(*net.TCPAddr); ok && l.perAddress > 0 {
		s.from = clientKey(t.AddrPort().Addr())
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if s.from.IsValid() {
		if isNew && l.from[s.from] >= l.perAddress {
			return nil, false
		}
		l.from[s.from]++
	}
	l.open++
	return s, true
}

// clientKey is the address that stands for all of one client's.
func clientKey(a netip.Addr) netip.Addr {
	if a = a.Unmap().WithZone(""); a.Is6() {
		if p, err := a.Prefix(ipv6Network); err == nil {
			return p.Addr()
		}
	}
	return a
}

// release ends the count. It may be called again, and of none.
func (p *permit) release() {
	if p == nil {
		return
	}
	c := p.of
	c.mu.Lock()
	var wake []*acceptor
	if !p.freed {
		p.freed = true
		if c.open--; c.open < c.most {
			wake, c.waiting = c.waiting, nil
		}
		if p.from.IsValid() {
			if c.from[p.from]--; c.from[p.from] == 0 {
				delete(c.from, p.from) // the map is as large as what is open
			}
		}
	}
	c.mu.Unlock()
	for _, a := range wake {
		a.wakeUp()
	}
}

// reset closes a connection so that nothing of it is left, in TIME_WAIT neither.
func reset(nc net.Conn) {
	if t, ok := nc.(*net.TCPConn); ok {
		t.SetLinger(0)
	}
	nc.Close()
}
