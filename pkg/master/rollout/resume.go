package rollout

// A machine that is booted with what another one has left goes on in its place.
// What that one had decided may have been carried out or not, so everything is
// asked for again that does no harm when it is asked for twice. First of all the
// steering is made what it should be; who has died meanwhile counts as if it
// died now.

// resume goes on from a snapshot.
func (m *Machine) resume(f Found) {
	m.restore(f.Snapshot)
	if s := f.Snapshot.State; s != nil { // what was to be saved, whether it was or not
		next := m.state.NextGeneration
		m.state = cloneState(*s)
		m.state.NextGeneration = max(m.state.NextGeneration, next)
	}
	m.state.Active = nil
	if m.active != nil {
		m.state.Active = cloneVersion(&m.active.version)
	}
	for _, g := range m.generations {
		m.state.NextGeneration = max(m.state.NextGeneration, g.id+1)
	}
	m.push(m.now.Sub(f.Snapshot.At)) // nobody could be heard; less than nothing when the clock was set back
	for _, w := range m.workers {
		w.pid = f.Alive[w.id]
		w.untold = w.gives() || m.shares(w) // its links are not known here
	}
	m.resuming = true // the steering waits for all that is to be known of it, which is in this step
	m.settleScaleLeft(f.Snapshot.Scale)
	m.settleForward(f.Snapshot.Sure)
	for _, w := range m.inOrder() {
		if _, lives := f.Alive[w.id]; !lives {
			m.gone(w, "was gone when a master came back", Cut{Unknown: true})
		}
	}
	m.settleBack()
	m.resuming = false
	m.queueAgain()
	if m.active != nil && m.try == nil && !m.ending() && !m.active.aside {
		m.refill(m.active) // of one worker after the other not all had come
	}
	later := m.out
	m.out = nil
	m.resteer()
	if a := m.try; a != nil { // a step that may not have been taken
		a.steerSeq = m.steering.seq
	}
	m.out = append(m.out, later...)
	m.save()
	m.retain()
	m.rehome()
	for _, w := range m.inOrder() {
		m.tellAgain(w)
	}
	for i, s := range m.slots {
		if s.state == slotQuarantine {
			m.emit(Quarantine{Slot: Slot(i)})
		}
	}
	if m.stop != nil && !m.ending() {
		m.announce()
	}
	if m.active == nil && m.stop == nil && m.boot.due.IsZero() {
		m.boot.due = m.now // between two tries to start
	}
	m.next = m.now // what time has brought meanwhile is done at once
}

// lost: it died while no master looked, and that has yet to be taken up.
func (m *Machine) lost(w *worker) bool { return m.resuming && w.pid == 0 }

// inOrder are all workers, oldest generation first.
func (m *Machine) inOrder() (all []*worker) {
	for _, g := range m.generations {
		all = append(all, g.workers...)
	}
	return all
}

// settleScaleLeft takes a change of size that was under way as done: its workers
// pass their checks as replacements do.
func (m *Machine) settleScaleLeft(to int) {
	if to > 0 && m.active != nil {
		m.active.settings.Processes, m.settings.Processes = to, to
	}
}

// settleForward ends the rollout that was under way well, if its candidate was
// known to have all the traffic.
func (m *Machine) settleForward(sure bool) {
	if a := m.try; a != nil && sure && !a.splits() && (a.stage == StageSteer || a.stage == StageMinReady) && m.hasAll(a.gen) {
		m.finish(a)
	}
}

// settleBack ends it badly, if nothing else has ended it.
func (m *Machine) settleBack() {
	if a := m.try; a != nil && !a.goesOn() {
		m.giveBack(Failed, a.stage, nil, "%s did not come into service: the master died at stage "+string(a.stage), true)
	}
}

// hasAll: new connections go to the generation and to no other.
func (m *Machine) hasAll(g *generation) bool {
	for _, s := range m.steering.have {
		if m.slots[s.Slot].generation != g.id {
			return false
		}
	}
	return len(m.steering.have) > 0
}

// tellAgain asks for what may not have reached the worker, or come of it.
func (m *Machine) tellAgain(w *worker) {
	s := w.gen.settings
	if w.triggered && w.phase != PhaseStopping && w.phase != PhaseKilled {
		w.triggered = false
		m.trigger(w)
	}
	switch w.phase {
	case PhaseStarting:
		if w.pid != 0 && !s.tellsReady() {
			m.ready(w)
		}
	case PhaseChecking:
		if s.Probe {
			w.probeDue = m.now
		}
	case PhaseWarming:
		m.emit(Warm{Worker: w.id})
	case PhaseActivating:
		m.emit(Activate{Worker: w.id})
	case PhaseActive, PhaseParked:
		m.heard(w)
		if w.phase == PhaseParked && w.gen == m.parked && m.active != nil && m.closesParked(w.gen) {
			w.closes = true
			m.emit(Park{Worker: w.id, Close: true})
		}
		if s.Probe {
			w.probeDue = m.now.Add(s.ActiveInterval)
		}
	case PhaseDraining:
		if w.exitBy.IsZero() {
			m.heard(w)
			m.emit(Drain{Worker: w.id, Deadline: w.deadline})
		}
	case PhaseStopping:
		m.emit(Terminate{Worker: w.id, Why: w.cause})
	case PhaseKilled:
		if w.stuck {
			w.killDue = m.now
			return
		}
		m.emit(Kill{Worker: w.id, Why: w.cause})
	}
}
