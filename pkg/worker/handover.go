package worker

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
)

const (
	maxRoutes = 16             // workers that one worker gives to at one time
	maxAwake  = 2 * ipc.MaxFDs // idle connections that are woken and not decided about yet
)

// errNobody: there is no worker to give connections to.
var errNobody = errors.New("there is no worker that takes connections")

// handover gives client connections to other workers, the way that a master
// has opened: routes pull from one queue, so that whoever takes them faster
// gets more.
type handover struct {
	log   *slog.Logger
	conns *census
	skip  int // conditions left out; of tests

	queue chan *request // unbuffered: what a route has pulled it decides about
	woken chan struct{} // a token for each connection that is woken
	open  atomic.Bool   // some route pulls
	epoch atomic.Uint64 // changes with open and with every route; never zero
	given atomic.Uint64

	tasks sync.WaitGroup // routes and sweeps

	mu      sync.Mutex
	routes  map[*route]struct{}
	changed chan struct{} // closed, and made anew, when a route comes, goes, stalls or goes on
	sweeps  int           // sweeps that are asked for; one runs at a time
	lost    time.Time     // when the last route ended by itself; zero: what comes next is told
}

func newHandover(conns *census, log *slog.Logger) *handover {
	return &handover{
		log:     log,
		conns:   conns,
		queue:   make(chan *request),
		woken:   make(chan struct{}, maxAwake),
		routes:  make(map[*route]struct{}),
		changed: make(chan struct{}),
	}
}

// parting tells whether connections of the listener have to be asked to leave,
// since there is no way by which they could be given. (While the other side is
// slow there is one, and when it has died there soon is or they stay.) A worker that is active again takes its notice back before
// it closes its ways: seen together here, one of them holds.
func (h *handover) parting(leaving *notice, listener string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return leaving.given() && !h.movable(listener) && !h.expected()
}

// movable: h.mu is held.
func (h *handover) movable(listener string) bool {
	for r := range h.routes {
		if !r.refuses[listener] {
			return true
		}
	}
	return false
}

// add gives to one more worker from now on; instead: and to no other.
func (h *handover) add(link *ipc.Link, to ipc.Peer, instead bool) error {
	r := newRoute(h, link, to)
	h.mu.Lock()
	defer h.mu.Unlock()
	var before []*route
	if instead {
		before = slices.Collect(maps.Keys(h.routes))
	}
	if len(h.routes)-len(before) >= maxRoutes {
		link.Close()
		return errors.New("it gives to as many workers as it can already")
	}
	for _, old := range before {
		old.end()
		delete(h.routes, old)
	}
	h.routes[r] = struct{}{}
	h.lost = time.Time{}
	h.tasks.Go(r.run)
	h.look()
	return nil
}

// stay ends all routes: what has not been taken stays. It does not wait.
func (h *handover) stay() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for r := range h.routes {
		r.end()
		delete(h.routes, r)
	}
	h.lost = time.Time{}
	h.look()
}

// close is stay, and waits until nothing of it runs any more.
func (h *handover) close() {
	h.stay()
	h.tasks.Wait()
}

// left is called by a route that ends, or whose state has changed.
func (h *handover) left(r *route) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.routes, r)
	if h.lost.IsZero() && !r.ended && len(h.routes) == 0 {
		h.lost = time.Now()
	}
	h.look()
}

// expecting tells whether a way was lost, so that the master is about to give
// the traffic back or to open another way.
func (h *handover) expecting() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.expected()
}

// expected: h.mu is held. A master that says nothing is not waited for longer
// than who hands off waits.
func (h *handover) expected() bool {
	return !h.lost.IsZero() && time.Since(h.lost) < handOffWait
}

// stalled notes whether a route's other side answers. h.mu is not held.
func (h *handover) stalled(r *route, is bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	r.stalled = is
	h.look()
}

func (h *handover) refused(r *route, listener string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	r.refuses[listener] = true
}

// look finds out whether somebody pulls, and has those woken who wait for that.
// h.mu is held.
func (h *handover) look() {
	open := false
	for r := range h.routes {
		open = open || !r.stalled
	}
	h.open.Store(open)
	h.epoch.Add(1)
	close(h.changed)
	h.changed = make(chan struct{})
	if open {
		if h.sweeps++; h.sweeps == 1 {
			h.tasks.Go(h.sweep)
		}
	}
}

// sweep wakes those that wait for a request, a few at a time: until then they
// are served here.
func (h *handover) sweep() {
	for done := 0; ; {
		h.mu.Lock()
		if h.sweeps == done {
			h.sweeps = 0
			h.mu.Unlock()
			return
		}
		done = h.sweeps
		h.mu.Unlock()
		for _, m := range h.conns.movers() {
			if !h.open.Load() {
				break
			}
			h.woken <- struct{}{} // each has its verdict soon, or is woken for nothing
			if !m.wake() {
				<-h.woken
			}
		}
	}
}

// awake is called once for each connection that was woken.
func (h *handover) awake() { <-h.woken }

// give moves an idle connection; nil: it is another worker's. Nobody but the
// caller may be reading from it. It does not wait for a route that is stalled.
func (h *handover) give(m *mover) error { return h.ask(context.Background(), m.ask(nil), false) }

// ask waits for a route to pull the request, and for its verdict. Who is patient
// also waits for what comes after a route that was lost.
func (h *handover) ask(ctx context.Context, r *request, patient bool) error {
	for {
		h.mu.Lock()
		way, changed := len(h.routes) > 0 || patient && h.expected(), h.changed
		h.mu.Unlock()
		if !way || !patient && !h.open.Load() {
			return errNobody
		}
		select {
		case h.queue <- r:
			return <-r.verdict
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
