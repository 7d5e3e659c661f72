package worker

import (
	"math"
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
	goAwayTick     = 50 * time.Millisecond // connections are told in groups, one each tick: their clients must not all come back in one instant
	goAwayGroup    = 50                    // connections told at once; more when that would take longer than goAwaySpread
	goAwaySpread   = 5 * time.Second       // from the first told to the last
	goAwayYoung    = 2 * time.Second       // of a connection's life, in which it is let be: who has just come wants answers, not a goodbye
	goAwayPatience = 10 * time.Second      // for the answer to our PING
	goAwayGrace    = time.Second           // after it, for streams that the client had begun for itself before it read the first GOAWAY, and sends after the answer
	goAwayShare    = 4                     // a drain's time divided by this bounds each of these: the streams need the rest
)

// leave says the first goodbye, and has the server say the second.
func (g *gate) leave(limit time.Duration) {
	if !g.wait(nil, min(goAwayYoung, limit)-time.Since(g.began)) {
		return
	}
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
	running sync.WaitGroup // those that leave, and who tells them to

	mu      sync.Mutex
	open    map[*gate]struct{}
	leaving bool
	limit   time.Duration // of each wait of one that leaves
	stop    chan struct{} // closed to end the telling that is under way; nil: none is
}

func newPartings() *partings { return &partings{open: make(map[*gate]struct{})} }

// join is called with each connection that speaks HTTP/2.
func (p *partings) join(g *gate) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.open[g] = struct{}{}
	if p.leaving {
		p.tell(g)
	}
}

func (p *partings) part(g *gate) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.open, g)
}

// tell has a connection leave, once. p.mu is held.
func (p *partings) tell(g *gate) {
	if _, open := p.open[g]; open && !g.told.Swap(true) {
		limit := p.limit
		p.running.Go(func() { g.leave(limit) })
	}
}

// begin has all leave, in groups. It may be called again when there is less
// time than was thought; zero: any.
func (p *partings) begin(within time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.leaving = true
	p.halt()
	p.limit = math.MaxInt64
	if within > 0 {
		p.limit = within / goAwayShare
	}
	var all []*gate
	for g := range p.open {
		if !g.told.Load() {
			all = append(all, g)
		}
	}
	ticks := max(1, int(min(goAwaySpread, p.limit)/goAwayTick))
	group := max(goAwayGroup, (len(all)+ticks-1)/ticks)
	if all = p.tellSome(all, group); len(all) == 0 {
		return
	}
	stop := make(chan struct{})
	p.stop = stop
	p.running.Go(func() {
		tick := time.NewTicker(goAwayTick)
		defer tick.Stop()
		for len(all) > 0 {
			select {
			case <-tick.C:
			case <-stop:
				return
			}
			p.mu.Lock()
			if p.stop == stop { // else it was halted meanwhile
				all = p.tellSome(all, group)
			}
			p.mu.Unlock()
		}
	})
}

// tellSome returns who is left. p.mu is held.
func (p *partings) tellSome(all []*gate, n int) []*gate {
	n = min(n, len(all))
	for _, g := range all[:n] {
		p.tell(g)
	}
	return all[n:]
}

// end is for a worker that is active again. Who was told goes; the rest stays.
func (p *partings) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.leaving = false
	p.halt()
}

func (p *partings) halt() {
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
