package rollout

import "time"

// Two kinds of time are kept apart. A deadline is what the machine demands of
// others (start within, answer within, beat within): when the machine itself
// was asleep it cannot say that they missed it. A due is what the machine wants
// to do itself (probe, restart, try again): when it is late it is done now.

// wake sets the time of this step. When the step comes much later than the
// machine had asked for (a paused VM, a loop that was stuck) then all deadlines
// are pushed by what was missed and a little more, so that the facts which wait
// behind this one are heard before anything is held against anybody.
func (m *Machine) wake(now time.Time) {
	if m.now.IsZero() {
		m.now = now
		return
	}
	if now.Before(m.now) {
		now = m.now
	}
	grace := max(2*m.settings.BeatInterval, lateAtLeast)
	if late := now.Sub(m.due()); !m.next.IsZero() && late > grace {
		m.push(late + grace)
	}
	m.now = now
}

// push moves every deadline by the same time.
func (m *Machine) push(d time.Duration) {
	push := func(ts ...*time.Time) {
		for _, t := range ts {
			if !t.IsZero() {
				*t = t.Add(d)
			}
		}
	}
	for _, g := range m.generations {
		push(&g.deadline, &g.first, &g.clearing)
		for _, w := range g.workers {
			push(&w.deadline, &w.first, &w.answer, &w.beatDue, &w.exitBy, &w.wait.since, &w.wait.giveUp)
		}
	}
	if a := m.try; a != nil {
		push(&a.deadline, &a.first, &a.goneBy)
	}
	if b := m.bake; b != nil {
		push(&b.deadline, &b.first)
	}
	if m.stop != nil {
		push(&m.stop.deadline)
	}
	for i := range m.slots {
		push(&m.slots[i].unread)
	}
	push(&m.steering.deadline, &m.saving.deadline, &m.nobody)
}

// times calls f with every time at which something is to be done.
func (m *Machine) times(f func(time.Time)) {
	for _, g := range m.generations {
		if g.watched() {
			f(g.deadline)
		}
		f(g.counts)
		f(g.clearing)
		for _, s := range g.seats {
			f(s.due)
		}
		for _, w := range g.workers {
			if w.stuck {
				f(w.killDue)
				continue
			}
			f(w.deadline)
			f(w.exitBy)
			f(w.probeDue)
			f(w.answer)
			f(w.beatDue)
			f(w.wait.tell)
			f(w.wait.giveUp)
		}
	}
	if a := m.try; a != nil {
		f(a.deadline)
		f(a.goneBy)
	}
	if b := m.bake; b != nil {
		f(b.deadline)
	}
	if s := m.stop; s != nil {
		f(s.drainDue)
		f(s.deadline)
	}
	for i := range m.slots {
		f(m.slots[i].due)
	}
	f(m.steering.deadline)
	f(m.steering.due)
	f(m.saving.deadline)
	f(m.saving.due)
	f(m.nobody)
	f(m.boot.due)
	f(m.automatic.due)
}

func (m *Machine) earliest() time.Time {
	var least time.Time
	if m.exited || !m.booted {
		return least
	}
	m.times(func(t time.Time) {
		if !t.IsZero() && (least.IsZero() || t.Before(least)) {
			least = t
		}
	})
	return least
}

// past tells whether a time was set and has come.
func (m *Machine) past(t time.Time) bool { return !t.IsZero() && !m.now.Before(t) }

// tick does what time alone brings. Workers come first: their reasons say more
// than those of the rollout that they belong to.
func (m *Machine) tick() {
	if m.exited || !m.booted {
		return
	}
	for _, g := range append([]*generation(nil), m.generations...) {
		for _, w := range append([]*worker(nil), g.workers...) {
			if m.workers[w.id] == w {
				m.tickWorker(w)
			}
		}
		if m.past(g.counts) {
			g.counts = time.Time{} // boundDraining looks again
		}
		if m.past(g.clearing) {
			m.clearOver(g)
		}
		if g.watched() && m.past(g.deadline) {
			m.expireGeneration(g)
		}
	}
	if a := m.try; a != nil {
		if m.past(a.goneBy) {
			a.goneBy, a.leaver = time.Time{}, nil
		}
		if m.past(a.deadline) {
			m.expireTry(a)
		}
	}
	if b := m.bake; b != nil && m.past(b.deadline) {
		m.bakeOver()
	}
	m.tickSteering()
	m.tickSaving()
	if m.past(m.nobody) {
		m.nobody, m.down = time.Time{}, true
	}
	if m.past(m.boot.due) {
		m.bootAgain()
	}
	if m.past(m.automatic.due) {
		m.automatic.due = time.Time{} // startDelayed looks again
	}
	m.tickStop()
}

func (m *Machine) tickWorker(w *worker) {
	if w.stuck {
		if m.past(w.killDue) {
			w.killDue = m.now.Add(killAgain)
			m.emit(Kill{Worker: w.id, Why: "it did not die of the last one"})
		}
		return
	}
	if m.past(w.deadline) {
		m.expire(w)
		return
	}
	if m.past(w.exitBy) {
		w.exitBy = time.Time{}
		if w.accepts() {
			m.terminate(w, "it has said that it leaves and did not exit")
		} else {
			m.terminate(w, "it has nothing open any more and did not exit")
		}
		return
	}
	if m.past(w.answer) {
		m.probed(w, Probed{Detail: "the check was not answered within " + w.gen.settings.ActiveTimeout.String()})
	} else if m.past(w.probeDue) {
		m.probe(w)
	}
	if m.past(w.beatDue) {
		m.missed(w)
	}
	m.tickWaiting(w)
}
