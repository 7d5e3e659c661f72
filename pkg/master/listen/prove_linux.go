package listen

import (
	"context"
	"net"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/masterd/masterd/pkg/master/listen/steer"
)

// Where a fresh socket is in the kernel's array follows from where the one before
// was. But whoever had that could shut it down and listen on it again, and so move
// the master's own, without leaving a trace: so a connection is made to the slot
// before it is given to anybody. Should it arrive elsewhere, or were sockets shut down
// of late, each index that no worker has is asked in the same way, until all are right:
// a socket that was down at the moment when the master moved its own has let another
// free one move, while the slot itself may be where it should be. Workers' indices do
// not move by that: the last of the array, which fills a hole, is the master's own or
// that of somebody who has just listened again.

const (
	// proveLimit bounds how long a slot is kept back because connections to it go
	// astray: somebody who steers is at work then, and will be as long as he likes.
	proveLimit = 5 * time.Second
	// refusedMost is how many connections in a row cannot be made before it is taken
	// that none can over loopback; one may meet somebody's socket as it is shut down.
	refusedMost = 3
	// arriveLimit is how long a connection over loopback may take to be in a queue.
	arriveLimit = 20 * time.Millisecond
)

// proven tells whether a slot's fresh sockets are where they should be. It is for
// the watcher's goroutine.
func (s *Set) proven(slot int, q *quarantine) bool {
	for len(q.unknown) > 0 {
		l := q.unknown[0]
		if !s.provenIn(l, slot, q) {
			s.mu.Lock()
			q.later(time.Now())
			s.mu.Unlock()
			return false
		}
		q.unknown = q.unknown[1:]
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.quarantine[slot] != q {
		return false
	}
	delete(s.quarantine, slot)
	return true
}

func (s *Set) provenIn(l *listener, slot int, q *quarantine) bool {
	if !s.suspected(l) {
		found, known := s.locate(l, slot, asTaken)
		if !known || found == slot {
			return true
		}
		s.mu.Lock()
		l.suspect = true
		s.mu.Unlock()
	}
	if time.Since(q.freshAt) > proveLimit {
		s.log.Error("connections to a slot go astray; it is used all the same", zap.String("listener", l.conf.Name),
			zap.Int("slot", slot))
		return true
	}
	right := s.reorder(l, slot)
	s.mu.Lock()
	defer s.mu.Unlock()
	if right && len(s.quarantine) == 1 { // nobody else has what could move them
		l.suspect = false
	}
	return right
}

func (s *Set) suspected(l *listener) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return l.suspect
}

const (
	nowhere = -1 // the connection is in no queue that may be looked into
	asTaken = -1 // the index that the slot is taken to have
)

// locate makes a connection to an index, by the slot, and tells in which socket that
// nobody mans it arrives. known is false where no such connection can be made, or the
// listener is no more, or it is not known how it is steered.
func (s *Set) locate(l *listener, slot, index int) (found int, known bool) {
	s.mu.Lock()
	if s.closed || !slices.Contains(s.listeners, l) || !l.proved && l.refused >= refusedMost || l.inherited {
		s.mu.Unlock()
		return nowhere, false
	}
	at := l.order.Indices(l.own())
	if index != asTaken {
		at[slot] = uint32(index)
	}
	dialer := *l // what dial needs of it never changes
	err := l.system.attach(l.sockets[l.own()].fd, l.programFor(at, l.shares, l.sticky))
	s.mu.Unlock()
	var c net.Conn
	if err == nil {
		ctx, cancel := context.WithTimeout(context.Background(), steer.DialLimit)
		c, err = dialer.dial(ctx, slot)
		cancel()
	}
	s.mu.Lock()
	if err != nil {
		l.refused++
		known = l.proved || l.refused < refusedMost // else it will be so the next time
		s.mu.Unlock()
		s.log.Debug("it cannot be tried whether a slot is where it should be", zap.String("listener", l.conf.Name),
			zap.Int("slot", slot), zap.Error(err))
		return nowhere, known
	}
	l.refused, l.proved = 0, true
	defer steer.Reset(c)
	port := c.LocalAddr().(*net.TCPAddr).Port
	var got []arrival
	found = nowhere
	for end := time.Now().Add(arriveLimit); found == nowhere && !s.closed; {
		found, got = s.arrived(l, slot, port, got)
		if found != nowhere || time.Now().After(end) {
			break
		}
		s.mu.Unlock()
		time.Sleep(time.Millisecond)
		s.mu.Lock()
	}
	s.mu.Unlock()
	for _, a := range got {
		s.deliver(a)
	}
	return found, true
}

// arrived looks for a connection by its port in the queues of the slot and of those
// that nobody mans, and takes out what else is there.
func (s *Set) arrived(l *listener, slot, port int, got []arrival) (int, []arrival) {
	for i, k := range l.sockets {
		if i != slot && !l.accepts(i) || l.accepts(i) && !s.starved.IsZero() {
			continue
		}
		for range acceptBatch {
			fd, sa, err := steer.Accept(k.fd)
			if err != nil {
				break
			}
			if steer.PortOf(sa) == port {
				closeFD(fd)
				return i, got
			}
			got = append(got, arrival{l.conf, fd, l.mode == answering})
		}
	}
	return nowhere, got
}

// reorder finds out what is where among the sockets that nobody mans, and tells
// whether that was known. What cannot be told stays as it was taken to be.
func (s *Set) reorder(l *listener, slot int) (right bool) {
	s.mu.Lock()
	if s.closed || !slices.Contains(s.listeners, l) {
		s.mu.Unlock()
		return true
	}
	before := slices.Clone(l.order)
	var idle []int // the indices
	for i, k := range l.order {
		if l.accepts(k) || k == slot {
			idle = append(idle, i)
		}
	}
	s.mu.Unlock()
	after := slices.Clone(before)
	seen := map[int]bool{}
	for _, index := range idle {
		found, known := s.locate(l, slot, index)
		if !known || found == nowhere || seen[found] {
			seen[nowhere] = true
			break
		}
		seen[found], after[index] = true, found
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return true
	}
	told := !seen[nowhere] && slices.Equal(l.order, before)
	right = told && slices.Equal(before, after)
	if told && !right {
		l.order = after
		l.drift++
		s.log.Warn("slots had been moved by whoever has kept one's socket; they are found again",
			zap.String("listener", l.conf.Name), zap.Int("slot", slot))
		s.keepOrder(l)
	}
	l.reattach(s.log)
	return right
}
