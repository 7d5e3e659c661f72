package migrate

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/masterd/masterd/pkg/ipc"
	"github.com/masterd/masterd/pkg/worker/internal/tasks"
)

const (
	maxLinks      = 16             // workers that one worker gives to at one time
	maxInterrupts = 2 * ipc.MaxFDs // idle connections that are interrupted and not decided about yet
)

// Sender gives client connections to other workers, over the links that a master
// has made: links pull from one queue, so that whoever takes them faster gets more.
//
// Its methods may be called by any goroutine. Close ends its own goroutines and waits.
type Sender struct {
	log        *slog.Logger
	conns      func() []*Conn // those that are open
	leaving    func() bool    // the worker is to let go of its clients
	conditions []condition    // what a connection that is idle meets
	confirm    func() bool    // whether the caller waits for a request

	queue      chan *transfer        // unbuffered: what a link has pulled it decides about
	interrupts chan struct{}         // a token for each connection that is interrupted
	open       atomic.Bool           // some link pulls
	version    atomic.Uint64         // changes with open and with every link; never zero
	split      atomic.Pointer[split] // what goes; nil: all. It outlives Stop, for those that are accepted then
	count      atomic.Uint64

	tasks tasks.Group // links and offerIdle

	mu           sync.Mutex
	links        map[*peerLink]struct{}
	changed      chan struct{} // closed, and made anew, when a link comes, goes, stalls or goes on
	offerRounds  int           // that are asked for; one runs at a time
	receiverLost time.Time     // when the last link ended by itself; zero: none has
}

// NewSender returns a sender without a receiver. conns tells which connections are open,
// leaving whether this worker is to let go of its clients; they are called by any goroutine
// and must not wait.
func NewSender(conns func() []*Conn, leaving func() bool, log *slog.Logger) *Sender {
	return &Sender{
		log:     log,
		conns:   conns,
		leaving: leaving,

		conditions: idleConditions[:],
		confirm:    confirmedByStack,

		queue:      make(chan *transfer),
		interrupts: make(chan struct{}, maxInterrupts),
		links:      make(map[*peerLink]struct{}),
		changed:    make(chan struct{}),
	}
}

// ShouldClose tells whether connections of the listener have to be asked to leave,
// since there is no worker that they could be given to. (While the other side is
// slow there is one, and when it has died there soon is or they stay.) A worker that is
// active again is not leaving any more before it closes its links: seen together here, one of
// them holds. Of a share alone nobody counts on a link.
func (s *Sender) ShouldClose(listener string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.leaving() && !s.hasReceiver(listener) && !s.awaitingReceiver()
}

// hasReceiver tells whether some worker takes all connections of the listener. s.mu is held.
func (s *Sender) hasReceiver(listener string) bool {
	if s.split.Load() != nil {
		return false
	}
	for r := range s.links {
		if !r.refuses[listener] {
			return true
		}
	}
	return false
}

// Add gives to one more worker from now on; to.Instead: and to no other. share is what of the
// connections goes, by all links; nil: all. The link is the sender's, whatever Add returns.
func (s *Sender) Add(link *ipc.Link, to ipc.Peer, share *ipc.Split) error {
	r := newPeerLink(s, link, to)
	s.mu.Lock()
	defer s.mu.Unlock()
	var before []*peerLink
	if to.Instead {
		before = slices.Collect(maps.Keys(s.links))
	}
	if len(s.links)-len(before) >= maxLinks {
		link.Close()
		return errors.New("it gives to as many workers as it can already")
	}
	for _, old := range before {
		old.end()
		delete(s.links, old)
	}
	s.links[r] = struct{}{}
	s.split.Store(newSplit(share))
	s.receiverLost = time.Time{}
	s.tasks.Go(r.run)
	s.update()
	return nil
}

// Stop ends all links: what has not been taken stays here. It does not wait.
func (s *Sender) Stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for r := range s.links {
		r.end()
		delete(s.links, r)
	}
	s.receiverLost = time.Time{}
	s.update()
}

// Close is Stop, and waits until no goroutine of the sender's runs any more.
func (s *Sender) Close() {
	s.Stop()
	s.tasks.Wait()
}

// linkEnded is called by a link that ends.
func (s *Sender) linkEnded(r *peerLink) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.links, r)
	if s.receiverLost.IsZero() && !r.ended && len(s.links) == 0 {
		s.receiverLost = time.Now()
	}
	s.update()
}

// awaitingReceiver tells whether the last receiver was lost, so that the master is about to
// give the traffic back or to name another. s.mu is held. A master that says nothing is not
// waited for longer than who hands off waits.
func (s *Sender) awaitingReceiver() bool {
	return !s.receiverLost.IsZero() && time.Since(s.receiverLost) < handOffTimeout
}

// stalled notes whether a link's other side answers. s.mu is not held.
func (s *Sender) stalled(r *peerLink, is bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r.stalled = is
	s.update()
}

func (s *Sender) refused(r *peerLink, listener string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r.refuses[listener] = true
}

// update finds out whether somebody pulls, and interrupts those who wait for that.
// s.mu is held.
func (s *Sender) update() {
	open := false
	for r := range s.links {
		open = open || !r.stalled
	}
	s.open.Store(open)
	s.version.Add(1)
	close(s.changed)
	s.changed = make(chan struct{})
	if open {
		if s.offerRounds++; s.offerRounds == 1 {
			s.tasks.Go(s.offerIdle)
		}
	}
}

// offerIdle interrupts those that wait for a request, a few at a time: until then they
// are served here.
func (s *Sender) offerIdle() {
	for done := 0; ; {
		s.mu.Lock()
		if s.offerRounds == done {
			s.offerRounds = 0
			s.mu.Unlock()
			return
		}
		done = s.offerRounds
		s.mu.Unlock()
		for _, m := range s.conns() {
			if !s.open.Load() {
				break
			}
			s.interrupts <- struct{}{} // each has its result soon, or is interrupted for nothing
			if !m.interrupt() {
				<-s.interrupts
			}
		}
	}
}

// interruptDone is called once for each connection that was interrupted.
func (s *Sender) interruptDone() { <-s.interrupts }

// sendIdle moves an idle connection; nil: it is another worker's. Nobody but the
// caller may be reading from it. It does not wait for a link that is stalled.
func (s *Sender) sendIdle(m *Conn) error {
	return s.submit(context.Background(), m.transfer(nil), false)
}

// submit waits for a link to pull the transfer, and for its result. Who is patient
// also waits for what comes after a receiver that was lost.
func (s *Sender) submit(ctx context.Context, r *transfer, patient bool) error {
	for {
		s.mu.Lock()
		possible, changed := len(s.links) > 0 || patient && s.awaitingReceiver(), s.changed
		if patient && s.split.Load() != nil {
			possible = false // what a program hands off is of no share
		}
		s.mu.Unlock()
		if !possible || !patient && !s.open.Load() {
			return ErrNoReceiver
		}
		select {
		case s.queue <- r:
			return <-r.result
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// PeerIDs are the workers that connections can be given to, in order.
func (s *Sender) PeerIDs() (to []uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for r := range s.links {
		to = append(to, r.to.Worker)
	}
	slices.Sort(to)
	return slices.Compact(to)
}

// Ready tells whether a worker that connections are given to takes them now.
func (s *Sender) Ready() bool { return s.open.Load() }

// Migrated is how many connections other workers have taken so far.
func (s *Sender) Migrated() uint64 { return s.count.Load() }
