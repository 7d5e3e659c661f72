package serve

import (
	"context"
	"net"
	"runtime"
	"sync/atomic"

	"github.com/masterd/masterd/pkg/ipc"
	"github.com/masterd/masterd/pkg/worker/internal/goaway"
	"github.com/masterd/masterd/pkg/worker/internal/measure"
	"github.com/masterd/masterd/pkg/worker/internal/migrate"
)

// Traffic is what a worker has to do with its clients, counted: connections by trackers,
// requests by the handler around the program's. Its methods may be called by any goroutine.
type Traffic struct {
	clients      *connTracker
	Probes       *connTracker // health checks
	Leaving      *Signal      // clients shall go
	GoAways      *goaway.Tracker
	inFlight     atomic.Int64
	requests     atomic.Uint64
	cut          atomic.Uint64
	refused      atomic.Uint64 // connections of addresses that had too many
	slow         atomic.Uint64 // requests whose bodies came too slowly
	requestTimes *requestTimes
	Counts       *measure.Set              // by listener and route
	ended        atomic.Pointer[Durations] // of what ran when the rest was cut; nil: nothing was

	// ctx is that of connections that were handed off to this worker. Cancel ends it: what is
	// open is cut.
	ctx    context.Context
	Cancel context.CancelFunc

	// Changed gets a token when something reached zero while leaving. It says
	// "look again", not "it is zero now".
	Changed chan struct{}
}

// NewTraffic returns what counts from zero.
func NewTraffic() *Traffic {
	t := &Traffic{
		Leaving: NewSignal(), GoAways: goaway.NewTracker(), requestTimes: newRequestTimes(), Counts: measure.NewSet(),
		Changed: make(chan struct{}, 1),
	}
	t.ctx, t.Cancel = context.WithCancel(context.Background())
	t.clients = newConnTracker(t.Notify)
	t.Probes = newConnTracker(func() {})
	return t
}

// Conns are the clients' connections that could leave for another worker.
func (t *Traffic) Conns() []*migrate.Conn { return t.clients.migratable() }

// Notify has whoever receives from Changed look again.
func (t *Traffic) Notify() {
	select {
	case t.Changed <- struct{}{}:
	default: // a token is there already
	}
}

// Idle tells whether no client is connected and no request runs, also not one whose client
// has gone.
func (t *Traffic) Idle() bool {
	return t.clients.Len() == 0 && t.inFlight.Load() == 0
}

// Stats are the numbers of this moment.
func (t *Traffic) Stats() ipc.Stats {
	s := ipc.Stats{
		Open:       int64(t.clients.Len()),
		InFlight:   t.inFlight.Load(),
		Accepted:   t.clients.accepted(),
		Requests:   t.requests.Load(),
		Cut:        t.cut.Load(),
		Refused:    t.refused.Load(),
		SlowBodies: t.slow.Load(),
		Goroutines: runtime.NumGoroutine(),
		LongestMS:  t.requestTimes.durations().Longest.Milliseconds(),
	}
	a := t.CutRequests()
	s.CutRequests, s.CutLongestMS, s.CutMedianMS = uint64(a.Count), a.Longest.Milliseconds(), a.Median.Milliseconds()
	return s
}

// CloseAll closes every client connection that is still open. How long what runs
// has run is looked at before: handlers end when their connection does.
func (t *Traffic) CloseAll() (n int) {
	if a := t.requestTimes.durations(); a.Count > 0 {
		t.ended.CompareAndSwap(nil, &a)
	}
	n = t.clients.closeAll()
	t.Cancel()
	t.cut.Add(uint64(n))
	return n
}

// CutRequests are those that ran when the rest was cut.
func (t *Traffic) CutRequests() Durations {
	if a := t.ended.Load(); a != nil {
		return *a
	}
	return Durations{}
}

// CloseIdle closes one in so many of the connections that are idle (all of them with 1),
// and tells how many were idle and how many it has closed. None is closed with a request in
// the kernel's buffer: that is answered, with Connection: close.
func (t *Traffic) CloseIdle(ticks int) (idle, closed int) {
	var all []net.Conn
	for _, c := range t.clients.snapshot() {
		if m := migrate.Of(c); m != nil && m.Idle() {
			all = append(all, c)
		}
	}
	due := (len(all) + ticks - 1) / ticks
	for _, c := range all {
		if closed == due {
			break
		}
		// Whoever read a request before the look is not idle any more.
		if m := migrate.Of(c); m.HasUnreadInput() || !m.Idle() {
			continue
		}
		c.Close()
		closed++
	}
	t.cut.Add(uint64(closed))
	return len(all), closed
}
