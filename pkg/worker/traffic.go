package worker

import (
	"context"
	"runtime"
	"sync/atomic"

	"github.com/masterd/masterd/pkg/ipc"
)

// Stats are a worker's numbers, as it sends them to its master. Health checks
// that a master makes are not in them.
type Stats = ipc.Stats

// traffic is what a worker has to do with its clients, counted: connections
// by the census, requests by the handler around the program's.
type traffic struct {
	clients  *census
	probes   *census
	leaving  *notice
	partings *partings
	inFlight atomic.Int64
	requests atomic.Uint64
	cut      atomic.Uint64
	refused  atomic.Uint64 // connections of addresses that had too many
	slow     atomic.Uint64 // requests whose bodies came too slowly
	running  *register
	ended    atomic.Pointer[ages] // of what ran when the rest was cut; nil: nothing was

	// living ends when what is open is cut; abandon ends it.
	living  context.Context
	abandon context.CancelFunc

	// settled gets a token when something reached zero while leaving. It says
	// "look again", not "it is zero now".
	settled chan struct{}
}

func newTraffic() *traffic {
	t := &traffic{leaving: newNotice(), partings: newPartings(), running: newRegister(), settled: make(chan struct{}, 1)}
	t.living, t.abandon = context.WithCancel(context.Background())
	t.clients = newCensus(t.look)
	t.probes = newCensus(func() {})
	return t
}

func (t *traffic) look() {
	select {
	case t.settled <- struct{}{}:
	default: // a token is there already
	}
}

// requestEnded is called when a request, or what became of one, has its answer.
func (t *traffic) requestEnded() {
	if t.inFlight.Add(-1) == 0 && t.leaving.given() {
		t.look()
	}
}

// quiet: no client is connected and no request runs, also not one whose client
// has gone.
func (t *traffic) quiet() bool {
	return t.clients.open() == 0 && t.inFlight.Load() == 0
}

func (t *traffic) stats() Stats {
	s := Stats{
		Open:       int64(t.clients.open()),
		InFlight:   t.inFlight.Load(),
		Accepted:   t.clients.total(),
		Requests:   t.requests.Load(),
		Cut:        t.cut.Load(),
		Refused:    t.refused.Load(),
		SlowBodies: t.slow.Load(),
		Goroutines: runtime.NumGoroutine(),
		LongestMS:  t.running.ages().longest.Milliseconds(),
	}
	a := t.cutRequests()
	s.CutRequests, s.CutLongestMS, s.CutMedianMS = uint64(a.count), a.longest.Milliseconds(), a.median.Milliseconds()
	return s
}

// cutOff closes every client connection that is still open. How long what runs
// has run is looked at before: handlers end when their connection does.
func (t *traffic) cutOff() (n int) {
	if a := t.running.ages(); a.count > 0 {
		t.ended.CompareAndSwap(nil, &a)
	}
	n = t.clients.closeAll()
	t.abandon()
	t.cut.Add(uint64(n))
	return n
}

// cutRequests are those that ran when the rest was cut.
func (t *traffic) cutRequests() ages {
	if a := t.ended.Load(); a != nil {
		return *a
	}
	return ages{}
}
