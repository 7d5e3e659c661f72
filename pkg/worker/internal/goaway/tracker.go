// Package goaway shuts HTTP/2 connections down gracefully, beneath net/http, in two steps
// (below). Filter has the connections of an http.Server pass through it; a Tracker says when
// they are to leave.
package goaway

import (
	"math"
	"slices"
	"sync"
	"time"

	"github.com/masterd/masterd/pkg/worker/internal/tasks"
)

// How HTTP/2 connections leave (RFC 9113, section 6.8). net/http sends one
// GOAWAY, with the last stream that it knows of: a request that is under way
// towards it at that moment is never answered. So here it takes two. The first
// is ours, says that no new streams are wanted, and refuses none; a PING
// follows, whose answer proves that the client has read it. Some time after
// that the server is given a GOAWAY to read, as if the client left: it then
// sends the second, names the last stream that it has seen, ignores later ones,
// finishes what is open, and ends the connection a second later.

const (
	// GOAWAYs are sent in groups, one each BatchInterval: the clients must not all
	// come back in one instant. A group is larger than BatchSize when all would take longer
	// than maxSpread otherwise.
	BatchInterval = 50 * time.Millisecond
	BatchSize     = 50
	maxSpread     = 5 * time.Second

	// MinAge is how old a connection is before it gets a GOAWAY: who has just come wants
	// answers.
	MinAge = 500 * time.Millisecond

	pingTimeout = 10 * time.Second // for the answer to our PING

	// streamGrace is the time after that answer for streams that the client had begun for
	// itself before it read the first GOAWAY, and sends after the answer.
	streamGrace = time.Second

	// drainShare bounds each of these by its part of a drain's time: the streams need the
	// rest.
	drainShare = 4
)

// leave sends the first GOAWAY, and has the server send the second.
func (f *filter) leave(limit time.Duration) {
	f.out.enqueue(append(goAway(MaxStreamID), ping()...))
	// Without an answer nothing is proved. But who does not answer for so long
	// would also not hear of the second.
	if f.wait(f.acked, min(pingTimeout, limit)) && f.wait(nil, min(streamGrace, limit)) {
		f.requestShutdown()
	}
}

// wait is for a time, or for something to come earlier; false: the connection
// has been closed.
func (f *filter) wait(earlier <-chan struct{}, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-earlier:
	case <-t.C:
	case <-f.closed:
		return false
	}
	return true
}

// Tracker knows a worker's HTTP/2 connections, and shuts them down gracefully when the
// worker leaves. Its methods may be called by any goroutine.
type Tracker struct {
	LongestWait time.Duration // bounds each wait; set before the first connection, by tests
	running     tasks.Group   // what sends the GOAWAYs, and each connection that leaves

	mu      sync.Mutex
	open    map[*filter]struct{}
	leaving bool
	queue   []*filter // those that are to get a GOAWAY, the oldest first; some may be closed
	batch   int
	limit   time.Duration // of each wait, this time
	stop    chan struct{} // closed to end what sends to the queue; nil: nothing does
}

// NewTracker returns a tracker without connections. Wait ends what it has begun.
func NewTracker() *Tracker {
	return &Tracker{LongestWait: math.MaxInt64, open: make(map[*filter]struct{})}
}

// add is called with each connection that speaks HTTP/2.
func (t *Tracker) add(g *filter) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.open[g] = struct{}{}
	if t.leaving {
		t.queue = append(t.queue, g)
		t.schedule()
	}
}

func (t *Tracker) remove(g *filter) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.open, g)
}

// Start shuts all connections down, in groups, and those that come from now on. within is
// the time that there is for it (zero: without an end); Start may be called again when
// there is less than was thought.
func (t *Tracker) Start(within time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.leaving = true
	t.limit = t.LongestWait
	if within > 0 {
		t.limit = min(t.limit, within/drainShare)
	}
	t.queue = nil
	for g := range t.open {
		if !g.goawaySent.Load() {
			t.queue = append(t.queue, g)
		}
	}
	slices.SortFunc(t.queue, func(a, b *filter) int { return a.created.Compare(b.created) })
	ticks := max(1, int(min(maxSpread, t.limit)/BatchInterval))
	t.batch = max(BatchSize, (len(t.queue)+ticks-1)/ticks)
	t.schedule()
}

// schedule has the queue sent GOAWAYs, unless that is under way. t.mu is held.
func (t *Tracker) schedule() {
	if t.stop != nil || len(t.queue) == 0 {
		return
	}
	stop := make(chan struct{})
	t.stop = stop
	t.running.Go(func() {
		tick := time.NewTicker(BatchInterval)
		defer tick.Stop()
		for t.sendBatch(stop) {
			select {
			case <-tick.C:
			case <-stop:
				return
			}
		}
	})
}

// sendBatch has a group leave; false: the queue is empty, or was cancelled.
func (t *Tracker) sendBatch(stop chan struct{}) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.stop != stop {
		return false // it was halted meanwhile
	}
	limit, young := t.limit, min(MinAge, t.limit)
	for n := 0; n < t.batch && len(t.queue) > 0 && time.Since(t.queue[0].created) >= young; t.queue = t.queue[1:] {
		if g := t.queue[0]; t.has(g) && !g.goawaySent.Swap(true) {
			t.running.Go(func() { g.leave(limit) })
			n++
		}
	}
	if len(t.queue) == 0 {
		t.stop = nil
		return false
	}
	return true
}

func (t *Tracker) has(g *filter) bool {
	_, open := t.open[g]
	return open
}

// Cancel is for a worker that is active again. Clients that were sent a GOAWAY go; the rest
// stays.
func (t *Tracker) Cancel() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.leaving, t.queue = false, nil
	if t.stop != nil {
		close(t.stop)
		t.stop = nil
	}
}

// Wait returns when no goroutine of the tracker's runs any more. The caller has closed all
// connections.
func (t *Tracker) Wait() {
	t.Cancel()
	t.running.Wait()
}
