package worker

import (
	"net/http"
	"time"
)

// What could not leave otherwise and is idle near the end of a drain is closed
// before its deadline, a few at a time: were all cut in one instant, all their
// clients would come back in one.

const (
	thinTick  = 50 * time.Millisecond // between two groups
	thinShare = 4                     // a drain's time divided by this is its last part, in which idle connections are closed,
	thinMax   = 5 * time.Second       // which is never longer than this
)

// resting: closing it would cut no request, as far as net/http knows. (Of HTTP/2
// some that could be closed are left out: those that have sent frames which
// belong to no stream since the last one ended.)
func (m *mover) resting() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return !m.moved && (m.state == http.StateNew && m.fresh || m.state == http.StateIdle && !m.touched)
}

// resting are the connections that rest.
func (c *census) resting() []member {
	var all []member
	for _, m := range c.all() {
		if mv := m.move(); mv != nil && mv.resting() {
			all = append(all, m)
		}
	}
	return all
}

// planThinning sets when a drain that may take so long begins to close what is
// idle; zero: never.
func (l *life) planThinning(in time.Duration) {
	l.thinning.Stop()
	if in > 0 && !l.wasCut {
		l.thinning.Reset(in - min(in/thinShare, thinMax))
	}
}

// thin closes the share of the idle connections that is due until the next tick, but
// none with a request in the kernel's buffer. It may be that all of them are gone by
// then, or that more are idle.
func (l *life) thin() {
	idle := l.w.traffic.clients.resting()
	left := time.Until(l.deadlineAt)
	ticks := max(1, int(left/thinTick))
	due, n := (len(idle)+ticks-1)/ticks, 0
	for _, m := range idle {
		if n == due {
			break
		}
		// A request that nobody has read yet is answered, with Connection: close; to
		// close under it would reset it. Whoever read it before the look is not
		// resting any more.
		if mv := m.move(); mv.pending() || !mv.resting() {
			continue
		}
		m.cut()
		n++
	}
	if n > 0 && l.thinned == 0 {
		l.log.Info("worker: time to drain is nearly up, closing idle connections in a spread", "idle", len(idle), "in", left)
	}
	l.thinned += n
	l.w.traffic.cut.Add(uint64(n))
	l.thinning.Reset(thinTick)
}
