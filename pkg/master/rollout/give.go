package rollout

import "slices"

// Connections follow the traffic. A worker that is parked or drains has clients
// whose connections stay open between their requests; these it gives to the
// workers that new connections go to. At the switch, so that nobody stays with
// the version before; back at a rollback, so that nobody stays with the one that
// was rejected; and to the replacement when one of the takers is gone.
//
// While a canary splits, those of the generation before give the candidate its share of
// theirs and go on; everybody else's go to the generation before.
//
// Who gives to whom follows from phases and from the steering alone. It is
// found anew after every fact, and what has changed is told. A Give comes before
// the Park or Drain that makes it necessary: answers after that would ask the
// clients to leave if there were no other place to go.

// rehome has everybody who is parked or drains give to the right ones.
func (m *Machine) rehome() {
	homes, split, canary := m.homes(), m.split(), []Worker(nil)
	if split != nil {
		canary = m.takers(m.try.gen)
	}
	for _, g := range m.generations {
		for _, w := range g.workers {
			from, share := homes, (*Split)(nil)
			switch shares := split != nil && m.shares(w); {
			case m.lost(w):
				continue
			case shares && len(canary) > 0:
				from, share = canary, split
			case g == m.active && w.phase == PhaseActive && (shares || len(w.giving) > 0 || w.untold):
				from = nil
			case !w.gives():
				continue
			}
			to := deal(from, w.id)
			if w.untold || !slices.Equal(to, w.giving) || !sameSplit(share, w.share) {
				w.giving, w.share, w.untold = to, share, false
				m.emit(Give{Worker: w.id, To: slices.Clone(to), Split: share})
			}
		}
	}
}

func sameSplit(a, b *Split) bool { return a == b || a != nil && b != nil && *a == *b }

// gives: its connections should be elsewhere, and it understands that.
func (w *worker) gives() bool {
	return (w.phase == PhaseParked || w.phase == PhaseDraining) && w.gen.settings.Beats
}

// homes are the workers that new connections are known to go to, none when all
// end. What is only about to be steered to does not count: it may yet fail.
// While two generations have the traffic (one worker comes after the other) it
// is the newer: what went to the older would soon have to move again.
func (m *Machine) homes() []Worker {
	if m.ending() {
		return nil
	}
	splits := m.try != nil && m.try.splits() && m.active.alive()
	for _, g := range slices.Backward(m.generations) {
		if splits && m.candidate(g) {
			continue // it has its share
		}
		if homes := m.takers(g); len(homes) > 0 {
			return homes
		}
	}
	return nil
}

// takers are the workers of a generation that new connections are known to go to.
func (m *Machine) takers(g *generation) (able []Worker) {
	for _, w := range g.workers {
		if g.settings.Handover && w.phase == PhaseActive && !w.leaving && !w.silent && !m.lost(w) && inShares(m.steering.have, w.slot) {
			able = append(able, w.id)
		}
	}
	return able
}

// deal gives each giver its hand of homes, the next giver the next ones: workers
// of one generation are numbered in a row, so that the homes get even shares.
func deal(homes []Worker, giver Worker) []Worker {
	n := len(homes)
	if n <= maxHomes {
		return homes
	}
	to := make([]Worker, maxHomes)
	first := int(uint64(giver) * maxHomes % uint64(n))
	for i := range to {
		to[i] = homes[(first+i)%n]
	}
	return to
}

// checkGiving: who gives gives to others, to a few, who have the traffic.
func (m *Machine) checkGiving() {
	for _, w := range m.workers {
		if w.phase == PhaseActive && len(w.giving) > 0 && (w.share == nil || w.gen == m.active && !m.shares(w)) {
			m.violate("%s is active and gives %v to %v", w.called(), w.share, w.giving)
		}
		if w.phase != PhaseActive && w.share != nil {
			m.violate("%s is %s and gives no more than a share", w.called(), w.phase)
		}
		if !w.gives() {
			continue
		}
		if len(w.giving) > maxHomes {
			m.violate("%s gives to %d workers", w.called(), len(w.giving))
		}
		for _, id := range w.giving {
			if x := m.workers[id]; x == nil || x.phase != PhaseActive || !inShares(m.steering.have, x.slot) {
				m.violate("%s gives to worker %d, which does not have the traffic", w.called(), id)
			}
		}
	}
}
