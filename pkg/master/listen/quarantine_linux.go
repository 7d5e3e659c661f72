package listen

import (
	"errors"
	"slices"
	"time"

	"github.com/vishvananda/netlink/nl"
	"go.uber.org/zap"

	"github.com/masterd/masterd/pkg/master/listen/steer"
	"github.com/masterd/masterd/pkg/master/sockdiag"
)

const (
	// Between two looks at a quarantine; each is twice the one before.
	firstLook = 10 * time.Millisecond
	lastLook  = 320 * time.Millisecond
	// blindQuarantine is how long a slot is kept where handshakes cannot be
	// counted. The kernel gives one up after 63 s (tcp_synack_retries 5).
	blindQuarantine = 65 * time.Second
)

// quarantine is a slot that nobody mans any more and that may still get
// connections: those whose SYN chose it before the steering moved away.
type quarantine struct {
	since time.Time
	next  time.Time // look
	pause time.Duration
	// pending are the handshakes that were under way at the first look, on any
	// slot of the same port, and still are. Later ones cannot be the slot's.
	pending map[sockdiag.Flow]struct{} // nil: no look yet
	settled bool                       // there are none left, and there will be none

	reported bool        // it was logged why it is kept back
	fresh    bool        // its sockets are ones that nobody has
	freshAt  time.Time   // since when
	unknown  []*listener // where it is not proven yet that they have their places
}

// Quarantine: nobody mans this slot any more, in any listener. What waits or
// arrives there is passed on; when nothing can arrive any more, the slot gets fresh
// sockets, so that whoever has kept one gets nothing more by it, and Quiet is told.
// A slot that was steered to is not any longer: its part goes to the others,
// and if there is none, connections wait for the next Steer. A slot that is
// assigned again gets nothing until the next Steer.
func (s *Set) Quarantine(slot int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.check(slot) != nil {
		return
	}
	for _, l := range s.listeners {
		l.assigned[slot] = false
		if slices.ContainsFunc(l.shares, func(sh Share) bool { return sh.Slot == slot }) {
			s.abandon(l)
		}
		s.attend(l)
	}
	if s.quarantine[slot] == nil {
		now := time.Now()
		s.quarantine[slot] = &quarantine{since: now, next: now.Add(sockdiag.SettleTime), pause: firstLook}
	}
	s.watch.wake()
}

// abandon steers a listener away from slots that are not assigned any more.
func (s *Set) abandon(l *listener) {
	if l.inherited {
		return // to whom it is steered is said with the first Steer
	}
	rest, m := l.ofAssigned(l.shares), l.mode
	if m == serving && len(rest) == 0 {
		m = holding
	}
	if err := l.aim(m, rest, l.sticky); err != nil {
		s.log.Error("a slot that nobody mans is still steered to", zap.Error(err))
		l.mode, l.shares = m, rest // so that what arrives is passed on, and the next beat tries again
	}
}

// lookAtQuarantines ends those that are over.
func (s *Set) lookAtQuarantines(now time.Time) {
	due, ipv6, tcp := s.dueQuarantines(now)
	if len(due) == 0 {
		return
	}
	// Without the lock: a big machine's table takes milliseconds.
	var flows map[sockdiag.Flow]struct{}
	var err error
	if tcp {
		if flows, err = s.system.handshakes(ipv6); errors.Is(err, nl.ErrDumpInterrupted) {
			flows, err = nil, nil // half a list is none: another look
		}
	}
	var over []int
	var got []arrival
	s.mu.Lock()
	for slot, q := range due {
		if s.quarantine[slot] != q {
			continue // assigned meanwhile
		}
		if !q.fresh {
			got = append(got, s.endQuarantine(slot, q, flows, err, now)...)
		}
		if q.fresh {
			over = append(over, slot)
			continue
		}
		q.later(now)
	}
	s.mu.Unlock()
	for _, a := range got {
		s.deliver(a)
	}
	slices.Sort(over)
	for _, slot := range over {
		if q := due[slot]; s.proven(slot, q) && s.o.Quiet != nil {
			s.o.Quiet(slot)
		}
	}
}

// later is when a quarantine is looked at the next time.
func (q *quarantine) later(now time.Time) {
	q.pause = min(2*q.pause, lastLook)
	q.next = now.Add(q.pause)
}

// endQuarantine gives a slot fresh sockets once nothing of a client's can arrive
// in those it has. What waits there is taken out before.
func (s *Set) endQuarantine(slot int, q *quarantine, flows map[sockdiag.Flow]struct{}, err error,
	now time.Time) (got []arrival) {
	if !s.past(q, flows, err, now) {
		return nil
	}
	for _, l := range s.listeners {
		if l.steering == shared {
			continue
		}
		taken, empty := s.empty(l, slot)
		got = append(got, taken...)
		if !empty {
			return got
		}
		k := l.sockets[slot]
		if k.owner == noOwner && !k.broken {
			continue
		}
		if err := s.renew(l, slot); err != nil {
			if !q.reported {
				q.reported = true
				s.log.Error("a slot is kept back, as somebody may have its socket", zap.Error(err))
			}
			return got
		}
		s.attend(l)
		if l.steering == kernel {
			q.unknown = append(q.unknown, l)
		}
	}
	q.fresh, q.freshAt = true, now
	return got
}

// empty takes out of a slot's queue what waits there. It is not done while nobody
// could be given that. When more comes than a queue holds, somebody sends it there
// on purpose: the rest is lost with the socket, and told.
func (s *Set) empty(l *listener, slot int) (got []arrival, done bool) {
	k := l.sockets[slot]
	for most := l.conf.Backlog + acceptBatch; !k.broken && steer.Readable(k.fd); most -= acceptBatch {
		if !l.accepts(slot) || !s.starved.IsZero() {
			return got, false
		}
		if most <= 0 {
			n, _, _ := steer.Queue(k.fd)
			s.log.Warn("connections are lost that were sent to a slot which nobody is steered to",
				zap.String("listener", l.conf.Name), zap.Int("slot", slot), zap.Int("connections", n))
			break
		}
		got = append(got, s.accept(l, k)...)
	}
	return got, true
}

// dueQuarantines are those to be looked at, and what must be known for it.
func (s *Set) dueQuarantines(now time.Time) (due map[int]*quarantine, ipv6, tcp bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for slot, q := range s.quarantine {
		if !now.Before(q.next) {
			if due == nil {
				due = map[int]*quarantine{}
			}
			due[slot] = q
		}
	}
	unsettled := false
	for _, q := range due {
		unsettled = unsettled || !q.settled
	}
	for _, l := range s.listeners {
		if l.steering == kernel && unsettled {
			tcp = true
			ipv6 = ipv6 || l.addr.Addr().Is6()
		}
	}
	return due, ipv6, tcp
}

// over tells whether nothing can arrive in the slot any more, and nothing waits
// there. The handshakes were looked at before the queues are: what has ended
// between is in a queue, or was accepted.
func (s *Set) over(slot int, q *quarantine, flows map[sockdiag.Flow]struct{}, err error, now time.Time) bool {
	if !s.past(q, flows, err, now) {
		return false
	}
	for _, l := range s.listeners {
		if l.steering == shared {
			continue // no queue is the slot's
		}
		if k := l.sockets[slot]; !k.broken && steer.Readable(k.fd) {
			return false // the watcher takes it, now or when somebody can be given it
		}
	}
	return true
}

// past tells whether all handshakes are over that may lead to the slot.
func (s *Set) past(q *quarantine, flows map[sockdiag.Flow]struct{}, err error, now time.Time) bool {
	switch {
	case q.settled:
	case err != nil:
		if !s.blind {
			s.blind = true
			s.log.Warn("handshakes cannot be counted; slots are kept back for a fixed time instead",
				zap.Duration("time", blindQuarantine), zap.Error(err))
		}
		if now.Sub(q.since) < blindQuarantine {
			return false
		}
	default:
		q.settled = s.settled(q, flows)
		return q.settled
	}
	return true
}

// settled tells whether no handshake is under way that was when the
// quarantine began.
func (s *Set) settled(q *quarantine, flows map[sockdiag.Flow]struct{}) bool {
	tcp := false
	ports := map[uint16]bool{}
	for _, l := range s.listeners {
		if l.steering == kernel {
			tcp, ports[l.addr.Port()] = true, true
		}
	}
	if !tcp {
		return true
	}
	if flows == nil {
		return false
	}
	q.pending = sockdiag.StillUnderWay(q.pending, flows, ports)
	return len(q.pending) == 0
}
