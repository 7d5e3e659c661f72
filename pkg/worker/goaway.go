package worker

import (
	"math"
	"slices"
	"sync"
	"time"
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
	goAwayTick     = 50 * time.Millisecond  // connections are told in groups, one each tick: their clients must not all come back in one instant
	goAwayGroup    = 50                     // connections told at once; more when that would take longer than goAwaySpread
	goAwaySpread   = 5 * time.Second        // from the first told to the last
	goAwayYoung    = 500 * time.Millisecond // of a connection's life, in which it is let be: who has just come wants answers, not a goodbye
	goAwayPatience = 10 * time.Second       // for the answer to our PING
	goAwayGrace    = time.Second            // after it, for streams that the client had begun for itself before it read the first GOAWAY, and sends after the answer
	goAwayShare    = 4                      // a drain's time divided by this bounds each of these: the streams need the rest
)

// leave says the first goodbye, and has the server say the second.
func (g *gate) leave(limit time.Duration) {
	g.say(append(goAway(maxStreamID), ping()...))
	// Without an answer nothing is proved. But who does not answer for so long
	// would also not hear of the second.
	if g.wait(g.acked, min(goAwayPatience, limit)) && g.wait(nil, min(goAwayGrace, limit)) {
		g.dismiss()
	}
}

// wait is for a time, or for something to come earlier; false: the connection
// has been closed.
func (g *gate) wait(earlier <-chan struct{}, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-earlier:
	case <-t.C:
	case <-g.closed:
		return false
	}
	return true
}

// partings are a worker's HTTP/2 connections, for when it leaves.
type partings struct {
	longest time.Duration  // of each wait; tests want it shorter
	running sync.WaitGroup // those that leave, and who tells them to

	mu      sync.Mutex
	open    map[*gate]struct{}
	leaving bool
	queue   []*gate // to be told, the oldest first; of those that are open still
	group   int
	limit   time.Duration // of each wait, this time
	stop    chan struct{} // closed to end the telling that is under way; nil: none is
}

func newPartings() *partings {
	return &partings{longest: math.MaxInt64, open: make(map[*gate]struct{})}
}

// join is called with each connection that speaks HTTP/2.
func (p *partings) join(g *gate) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.open[g] = struct{}{}
	if p.leaving {
		p.queue = append(p.queue, g)
		p.start()
	}
}

func (p *partings) part(g *gate) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.open, g)
}

// begin has all leave, in groups. It may be called again when there is less
// time than was thought; zero: any.
func (p *partings) begin(within time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.leaving = true
	p.limit = p.longest
	if within > 0 {
		p.limit = min(p.limit, within/goAwayShare)
	}
	p.queue = nil
	for g := range p.open {
		if !g.told.Load() {
			p.queue = append(p.queue, g)
		}
	}
	slices.SortFunc(p.queue, func(a, b *gate) int { return a.began.Compare(b.began) })
	ticks := max(1, int(min(goAwaySpread, p.limit)/goAwayTick))
	p.group = max(goAwayGroup, (len(p.queue)+ticks-1)/ticks)
	p.start()
}

// start has the queue told, unless that is under way. p.mu is held.
func (p *partings) start() {
	if p.stop != nil || len(p.queue) == 0 {
		return
	}
	stop := make(chan struct{})
	p.stop = stop
	p.running.Go(func() {
		tick := time.NewTicker(goAwayTick)
		defer tick.Stop()
		for p.tell(stop) {
			select {
			case <-tick.C:
			case <-stop:
				return
			}
		}
	})
}

// tell has a group leave; false: there is nobody left to be told.
func (p *partings) tell(stop chan struct{}) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stop != stop {
		return false // it was halted meanwhile
	}
	limit, young := p.limit, min(goAwayYoung, p.limit)
	for n := 0; n < p.group && len(p.queue) > 0 && time.Since(p.queue[0].began) >= young; p.queue = p.queue[1:] {
		if g := p.queue[0]; p.has(g) && !g.told.Swap(true) {
			p.running.Go(func() { g.leave(limit) })
			n++
		}
	}
	if len(p.queue) == 0 {
		p.stop = nil
		return false
	}
	return true
}

func (p *partings) has(g *gate) bool {
	_, open := p.open[g]
	return open
}

// end is for a worker that is active again. Who was told goes; the rest stays.
func (p *partings) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.leaving, p.queue = false, nil
	if p.stop != nil {
		close(p.stop)
		p.stop = nil
	}
}

// wait returns when nobody is leaving any more. All connections are closed.
func (p *partings) wait() {
	p.end()
	p.running.Wait()
}
