package rollout

import "time"

// Surge replace is for programs that lock what they have: two of them cannot live at one
// time. All that can be known without a start comes first. Then new connections are kept
// waiting in the queues of the next generation, which nobody reads yet; the one before
// drains and ends; and only when nobody else lives is the next one started, on those same
// queues. Until it serves the generation before stays the active one, with nobody in its
// seats. Does the next one fail then that is the way back: it is ended, its queues are
// given to the generation before, whose seats are filled again.

// launch starts what was prepared: beside what serves, or in its place.
func (m *Machine) launch(a *attempt) {
	if a.alone {
		m.makeWay(a)
		return
	}
	m.startBatch(a)
}

// makeWay has everybody end who lives. First of all new connections are kept waiting where
// the next generation will find them: what comes to a program that is about to end may get
// no answer.
func (m *Machine) makeWay(a *attempt) {
	old := m.active
	if m.parked != nil {
		m.losePark("it cannot stay beside the next version (rollout.surge: replace)")
	}
	a.ends = true
	timeout := killPatience + m.settings.SteerTimeout
	if old != nil {
		timeout = old.settings.endTime() + m.settings.SteerTimeout
		m.standAside(old)
	}
	if m.serving() {
		a.queues = m.queuesFor(a.gen, old)
	}
	for _, g := range m.generations {
		if g.phase == PhaseDraining && g.deadline.IsZero() {
			m.cut(g, "the next version must be alone (rollout.surge: replace)")
		}
		timeout = max(timeout, g.deadline.Sub(m.now)+g.settings.KillAfter+killPatience)
	}
	m.enter(a, StageDrain, timeout, "")
	m.boundCandidate(a, a.deadline)
	for _, q := range a.queues {
		m.emit(Queue{Slot: q.Slot, Generation: a.gen.id})
	}
	m.resteer()
	a.steerSeq = m.steering.seq
}

// standAside has the active generation end, once nothing is steered to it.
func (m *Machine) standAside(old *generation) {
	m.stopReplacing(old)
	old.aside = true
	for _, w := range old.workers {
		if w.phase == PhaseActive {
			w.leaving = true
		}
	}
}

// boundCandidate sets how long the candidate as a whole may take, from a time on.
func (m *Machine) boundCandidate(a *attempt, from time.Time) {
	a.gen.deadline = from.Add(a.settings.candidateTimeout(a.one))
	a.gen.first = a.gen.deadline
}

// endTime is how long a generation may take to end that makes way.
func (s Settings) endTime() time.Duration { return s.drainAlone() + s.KillAfter + killPatience }

// drainAlone is its drain's: clients wait for it, so it always has a limit.
func (s Settings) drainAlone() time.Duration {
	if s.DrainTimeout == 0 {
		return surgePatience
	}
	return s.DrainTimeout
}

// queuesFor are the slots of the next generation in which new connections wait: as many
// as the one before could read too, should it have to come back.
func (m *Machine) queuesFor(next, old *generation) (queues []Share) {
	n := 1
	if old != nil && next.slot == noSlot && old.settings.SlotPerWorker {
		n = max(min(len(next.seats), len(old.seats)), 1)
	}
	for _, s := range next.seats[:n] {
		queues = append(queues, Share{Slot: s.slot, Weight: 1})
	}
	return queues
}

// makesWay: the running rollout has begun to end what served.
func (m *Machine) makesWay() bool { return m.try != nil && m.try.ends }

// keepsWaiting: new connections go to queues that nobody reads yet.
func (m *Machine) keepsWaiting() bool {
	return m.try != nil && m.try.queues != nil && !m.try.gen.traffic
}

// aloneIn: nobody lives but the workers of a generation, and those that cannot be killed.
func (m *Machine) aloneIn(g *generation) bool {
	for _, w := range m.workers {
		if w.gen != g && !w.stuck {
			return false
		}
	}
	return true
}

// startAlone starts the candidate once nobody else lives.
func (m *Machine) startAlone(a *attempt) bool {
	if !m.aloneIn(a.gen) {
		return false
	}
	m.passQueues(a.gen)
	m.boundCandidate(a, m.now)
	m.startBatch(a)
	return true
}

// passQueues gives a generation the queues in which clients wait for somebody: those that
// new connections go to, of generations of which nobody lives.
func (m *Machine) passQueues(to *generation) {
	var got []Slot
	for i := range m.slots {
		s := Slot(i)
		if m.slots[i].state != slotManned || m.slots[i].generation == to.id || !m.steersTo(s) || m.peopled(s) {
			continue
		}
		for _, g := range m.generations {
			if g.id == m.slots[i].generation {
				g.letGo(s)
			}
		}
		got = append(got, s)
	}
	for i, s := range got {
		m.slots[s].generation, m.slots[s].vacant = to.id, false
		if !m.receive(to, i, s) {
			m.slots[s].vacant = true
			continue
		}
		m.emit(Queue{Slot: s, Generation: to.id})
	}
}

// queueAgain asks again for what may not have been done: who waits in a slot may wait for
// another generation than the slot's sockets are known to be of.
func (m *Machine) queueAgain() {
	for _, g := range m.generations {
		for i, x := range m.slots {
			s := Slot(i)
			if g.settings.SurgeReplace && x.generation == g.id && x.state == slotManned && !x.vacant && m.steersTo(s) && !m.peopled(s) {
				m.emit(Queue{Slot: s, Generation: g.id})
			}
		}
	}
}

// peopled: a worker is still on the slot.
func (m *Machine) peopled(s Slot) bool {
	for _, w := range m.workers {
		if w.slot == s {
			return true
		}
	}
	return false
}

// letGo: the slot is not the generation's any more.
func (g *generation) letGo(s Slot) {
	if g.slot == s {
		g.slot = noSlot
	}
	for _, x := range g.seats {
		if x.slot == s {
			x.slot = noSlot
		}
	}
}

// receive seats the generation on the i-th queue that it is given, in the place of the slot
// it had. It tells whether it has a seat for it.
func (m *Machine) receive(g *generation, i int, s Slot) bool {
	if !g.settings.SlotPerWorker {
		if i > 0 {
			return false
		}
		m.vacate(g.slot)
		g.slot = s
		for _, x := range g.seats {
			x.slot = s
		}
		return true
	}
	if i >= len(g.seats) {
		return false
	}
	m.vacate(g.seats[i].slot)
	g.seats[i].slot = s
	return true
}

// comeBack fills the seats of the active generation again, once its successor was given up
// and nobody lives who could be in its way.
func (m *Machine) comeBack() {
	old := m.active
	if !m.returns() || !m.aloneIn(nil) {
		return
	}
	m.passQueues(old)
	if !old.settings.SlotPerWorker && old.slot == noSlot {
		if old.slot = m.take(old); old.slot == noSlot {
			return // one is about to be free: its quarantine ends
		}
		for _, s := range old.seats {
			s.slot = old.slot
		}
	}
	old.aside = false
	for _, g := range m.generations {
		g.queued = false
	}
	m.refill(old)
}

// takeTurns undoes that the active generation made way, or sees to it that it comes back.
// It tells whether the rollout's end is told only then.
func (m *Machine) takeTurns(a *attempt) bool {
	old := m.active
	if old == nil || !old.aside {
		return false
	}
	if old.alive() { // it had not begun to drain
		old.aside = false
		return false
	}
	if g := a.gen; g != nil && m.steersToAny(g) {
		g.queued = true
	}
	if g := a.gen; g != nil && g.phase == PhaseStarting {
		m.become(g, PhaseKilled, killPatience)
		for _, w := range append([]*worker(nil), g.workers...) {
			if !m.lost(w) {
				m.kill(w, "its rollout was given up")
			}
		}
	}
	return true
}

// returns: the way back of a rollout that was alone is not done yet.
func (m *Machine) returns() bool {
	return m.active != nil && m.active.aside && !m.makesWay() && !m.ending()
}

// noteWaiting measures how long new connections have waited for somebody who accepts.
func (m *Machine) noteWaiting() {
	switch {
	case !m.somebody && m.unheard.IsZero():
		m.unheard = m.now
	case m.somebody && !m.unheard.IsZero():
		m.waited, m.unheard = m.now.Sub(m.unheard), time.Time{}
	}
}

// waitedFor says how long clients have waited for a rollout that was alone; empty: they
// have not.
func (a *attempt) waitedFor(before string) string {
	if a.waited == 0 {
		return ""
	}
	say := before + "clients waited for up to " + span(a.waited)
	if after := a.settings.UnavailableAfter; a.waited > after {
		say += ", those of the time beyond unavailable.after (" + after.String() + ") were answered by masterd"
	}
	return say
}

// startBefore begins the way back out of a bake whose generation is alone: nothing is parked, so
// the version before is started again, once. It tells whether it has.
func (m *Machine) startBefore(b *bake) bool {
	if b.made.back == nil || b.made.what != "reload" || b.wentBack || m.try != nil || m.stop != nil || b.fault == "" {
		return false
	}
	why := b.fault
	b.fault, b.broken, b.wentBack = "", true, true
	m.begin(&attempt{what: "rollback", by: "masterd", origin: Internal, why: why, settings: m.settings, version: cloneVersion(b.made.back)})
	return true
}

// before is what a failure in the bake of a generation that was alone goes back to.
func (m *Machine) before(a *attempt, old *generation) *Version {
	if !a.alone || old == nil {
		return nil
	}
	v := &old.version
	if kept := m.newestKept(a.gen.version); !old.baked && kept != nil || v.ID == a.gen.version.ID {
		v = kept
	}
	return cloneVersion(v)
}
