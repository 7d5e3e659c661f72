package rollout

import "slices"

// While a canary's share is in force the candidate can be compared with the generation before:
// each new connection is drawn to it with a known probability. That ends before anything about
// the steering changes, and begins anew once it is in force. What the comparison has found comes
// back as Judged.

// compare has what can be compared now compared.
func (m *Machine) compare() {
	want := m.comparable()
	if want.same(m.compared) {
		return
	}
	m.compared = want
	m.emit(want)
}

// endCompare is called before the steering changes.
func (m *Machine) endCompare() {
	if m.compared.Weight != 0 {
		m.compared = Compare{}
		m.emit(m.compared)
	}
}

// comparable is what the shares that are known to be in force allow to compare. Clients that
// belong to a version by their address are not drawn one by one; and of workers without
// the SDK nobody counts errors.
func (m *Machine) comparable() Compare {
	a := m.try
	if a == nil || a.stage != StageCanary || !a.splits() || !m.draws(a) || !m.steering.confirmed() || !m.active.alive() {
		return Compare{}
	}
	c := Compare{Rollout: a.id, Weight: a.steps()[a.canary.step-1].Weight,
		Candidate: m.steeredTo(a.gen), Stable: m.steeredTo(m.active)}
	if len(c.Candidate) == 0 || len(c.Stable) == 0 || len(c.Candidate)+len(c.Stable) != m.steeredWorkers() {
		return Compare{}
	}
	return c
}

// steeredTo are the workers of a generation that accept from a slot that is steered to.
func (m *Machine) steeredTo(g *generation) (all []Worker) {
	for _, w := range g.workers {
		if w.phase == PhaseActive && inShares(m.steering.have, w.slot) {
			all = append(all, w.id)
		}
	}
	return all
}

// steeredWorkers is how many there are of all generations.
func (m *Machine) steeredWorkers() (n int) {
	for _, g := range m.generations {
		n += len(m.steeredTo(g))
	}
	return n
}

func (c Compare) same(d Compare) bool {
	return c.Rollout == d.Rollout && c.Weight == d.Weight &&
		slices.Equal(c.Candidate, d.Candidate) && slices.Equal(c.Stable, d.Stable)
}

// judged takes a candidate back that does worse than the generation before.
func (m *Machine) judged(ev Judged) {
	a := m.try
	m.close(a.gen.version, m.active.version)
	m.fail(a.stage, nil, ev.Why)
}

// judges: the rollout is one whose candidate can still be taken back by a verdict.
func (m *Machine) judges(id Rollout) bool {
	a := m.try
	return a != nil && a.id == id && a.splits() && m.moved(a) && m.active.alive()
}

// checkCompared: nothing is compared but what has its share, all of it and for sure.
func (m *Machine) checkCompared() {
	if m.compared.Weight != 0 && !m.compared.same(m.comparable()) {
		m.violate("%v is compared, and what could be is %v", m.compared, m.comparable())
	}
}
