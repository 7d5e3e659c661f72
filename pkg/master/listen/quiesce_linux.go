package listen

import (
	"errors"
	"time"

	"github.com/vishvananda/netlink/nl"

	"github.com/masterd/masterd/pkg/master/sockdiag"
)

// quiescence is a slot whose worker is to leave.
type quiescence struct {
	set  *Set
	slot int
	q    quarantine
}

// Quiesce begins to look at a slot that the steering has left. What it returns looks
// once, and tells whether the slot gets no connections any more and its worker has
// accepted those that were on their way. That is not so before a few milliseconds
// have passed, and never while the slot is steered to and clients come. It is for
// one goroutine.
func (s *Set) Quiesce(slot int) (over func() bool) {
	e := &quiescence{set: s, slot: slot, q: quarantine{since: time.Now()}}
	return e.over
}

func (e *quiescence) over() bool {
	now := time.Now()
	if now.Sub(e.q.since) < sockdiag.SettleTime {
		return false
	}
	s := e.set
	s.mu.Lock()
	ipv6, tcp := false, false
	for _, l := range s.listeners {
		if l.steering == kernel && !e.q.settled {
			tcp = true
			ipv6 = ipv6 || l.addr.Addr().Is6()
		}
	}
	s.mu.Unlock()
	var flows map[sockdiag.Flow]struct{}
	var err error
	if tcp {
		if flows, err = s.system.handshakes(ipv6); errors.Is(err, nl.ErrDumpInterrupted) {
			return false
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed || s.check(e.slot) != nil || s.over(e.slot, &e.q, flows, err, now)
}
