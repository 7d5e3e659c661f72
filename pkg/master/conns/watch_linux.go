package conns

import (
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/masterd/masterd/pkg/master/sockdiag"
)

const (
	// maxSeen bounds the connections of one listener that are remembered, in all
	// generations; what is beyond is left to the end of a drain.
	maxSeen = 1 << 16
	// looksApart is between two looks at the kernel's table: who asks sooner gets the last.
	looksApart = 4 * time.Millisecond
	// forgetAfter is when a listener is forgotten at which nobody looks any more.
	forgetAfter = 5 * time.Minute
)

// Watch remembers what was seen of a service's connections, whoever looked.
type Watch struct {
	mu     sync.Mutex
	table  func(sockdiag.Query, func(sockdiag.Socket)) error
	places map[netip.AddrPort]*place
	learnt lessons
	looks  uint64
	// published is what was learnt with the last look. A look holds mu while the kernel lists its
	// table, and who asks does not wait for that.
	published atomic.Pointer[lessons]
}

// place is one listener's address.
type place struct {
	seen map[uint64]*seen // by the kernel's cookie
	more int              // connections beyond maxSeen
	at   time.Time        // of the last look
	cost time.Duration    // of it
}

// NewWatch has seen nothing.
func NewWatch() *Watch {
	w := &Watch{table: sockdiag.TCP, places: map[netip.AddrPort]*place{}}
	w.published.Store(&lessons{})
	return w
}

// Learnt tells how long the longest pause within an answer was that was seen lately, and how
// long a kept connection has to be quiet before it is closed. It does not wait.
func (w *Watch) Learnt() (pause, quiet time.Duration) {
	l := w.published.Load()
	return l.longest(), l.quiet()
}

// Look looks at the connections of these listeners, and tells what that has cost.
func (w *Watch) Look(at []Place) (cost time.Duration, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, a := range at {
		p, err := w.look(a.At)
		if err != nil {
			return cost, err
		}
		cost += p.cost
	}
	return cost, nil
}

func (w *Watch) look(at netip.AddrPort) (*place, error) {
	now := time.Now()
	p := w.places[at]
	if p == nil {
		for a, old := range w.places {
			if now.Sub(old.at) > forgetAfter {
				delete(w.places, a)
			}
		}
		p = &place{seen: map[uint64]*seen{}}
		w.places[at] = p
	}
	if now.Sub(p.at) < looksApart {
		return p, nil
	}
	family := uint8(unix.AF_INET)
	if at.Addr().Is6() {
		family = unix.AF_INET6 // those of IPv4 at a dual one are of this family, too
	}
	w.looks++
	p.more = 0
	err := w.table(sockdiag.Query{Family: family, Port: at.Port(), Info: true,
		States: 1<<sockdiag.Established | 1<<sockdiag.CloseWait}, func(s sockdiag.Socket) {
		if s.Inode == 0 || !at.Addr().IsUnspecified() && at.Addr() != s.Local.Addr().Unmap() {
			return
		}
		c := p.seen[s.Cookie]
		if c == nil {
			if len(p.seen) >= maxSeen {
				p.more++
				return
			}
			c = &seen{}
			p.seen[s.Cookie] = c
		}
		c.take(s, now, &w.learnt)
		c.look = w.looks
	})
	learnt := w.learnt
	w.published.Store(&learnt)
	if err != nil {
		return p, err
	}
	for cookie, c := range p.seen {
		if c.look != w.looks {
			delete(p.seen, cookie)
		}
	}
	p.at, p.cost = now, time.Since(now)
	return p, nil
}
