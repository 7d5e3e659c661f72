package rollout

import "time"

// Clients wait in the queue of a worker that has died, for the one that replaces it.
// When another generation gets the traffic meanwhile, only that replacement can serve
// them, if workers do not speak the protocol: nobody can pass them a connection. So
// the generation is still replaced, on the same slot, for as long as clients may wait
// at all (UnavailableAfter); whoever comes up drains at once, which empties the queue.

// clearUntil is until when workers are still started on the empty seats of a generation
// that is superseded; zero: they are not.
func (m *Machine) clearUntil(g *generation) time.Time {
	if g.settings.Beats || g.aside || !g.touched || g.alive() || m.stop != nil {
		return time.Time{}
	}
	var left time.Time
	for _, s := range g.seats {
		if s.left.After(left) {
			left = s.left
		}
	}
	until := left.Add(m.settings.UnavailableAfter)
	if left.IsZero() || !until.After(m.now) {
		return time.Time{}
	}
	return until
}

// clear has a generation's queues emptied by replacements of its own.
func (m *Machine) clear(g *generation, until time.Time) {
	g.clearing = until
	for _, s := range g.seats {
		if s.worker == nil && !s.left.IsZero() {
			s.due = m.now // the wait before a restart is over: clients wait
		}
	}
}

// clears: somebody is still to come for the sake of who waits.
func (g *generation) clears() bool {
	for _, s := range g.seats {
		if !s.due.IsZero() && !g.clearing.IsZero() {
			return true
		}
	}
	return false
}

// clearOver: clients have waited long enough, or there is no time for it.
func (m *Machine) clearOver(g *generation) {
	if g.clearing.IsZero() {
		return
	}
	g.clearing = time.Time{}
	for _, s := range g.seats {
		s.due = time.Time{}
	}
	for _, w := range append([]*worker(nil), g.workers...) {
		if !w.served {
			m.kill(w, "its generation leaves and it never served")
		}
	}
}
