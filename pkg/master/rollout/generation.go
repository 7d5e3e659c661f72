package rollout

import "time"

// generation is one rollout's set of workers of one version. Its phases:
//
//   - starting: a candidate; nothing is steered to it until every worker that
//     is to be has passed its checks. Ends with the traffic, or in being killed.
//   - active: has the traffic.
//   - parked: had it before the active one and would get it back.
//   - draining: will never have traffic again.
//   - stopping: drained for too long, or there were too many; was sent TERM.
//   - killed: was sent KILL.
//
// A generation that nobody wants any more is leaving. It goes on as it is until
// no steering that may be in force names it, and only then drains or is killed.
type generation struct {
	id       Generation
	version  Version
	settings Settings
	token    string   // of the configuration that its settings are from
	made     *attempt // the rollout that made it

	phase    Phase
	since    time.Time
	deadline time.Time
	first    time.Time // the deadline as it was set; only push moves both
	clearing time.Time // leaving: until when empty seats are still filled, for who waits there; zero: they are not
	counts   time.Time // draining: from when on it is one of MaxDraining; zero: it is

	baked   bool
	leaving bool
	traffic bool // new connections are meant for it
	touched bool // may have had some: it drains, it is not just killed
	aside   bool // surge replace: it makes way for the next, nobody is started in it
	queued  bool // surge replace: given up, and clients wait in its queues for the one that comes back
	slot    Slot // the one that its workers share, or noSlot
	seats   []*seat
	workers []*worker   // living ones, oldest first; those without a seat too
	exits   []time.Time // of its workers, unasked, within LoopWindow
	looped  time.Time   // those up to here have counted as a loop
	ended   Ending      // the last of them
	sick    time.Time   // since when it is known to fail its checks; zero: it is not
}

// seat is one worker's place in a generation, with whoever sits in it now.
type seat struct {
	slot     Slot // noSlot until somebody is started on it
	worker   *worker
	last     Worker // who sat here before
	restarts int
	wait     time.Duration // the last wait before a replacement
	left     time.Time     // when the last one was gone
	due      time.Time     // of the replacement; zero: none comes
	fresh    bool          // asked for by a scale that is not done yet
}

var generationAfter = map[Phase][]Phase{
	PhaseStarting: {""},
	PhaseActive:   {PhaseStarting, PhaseParked},
	PhaseParked:   {PhaseActive},
	PhaseDraining: {PhaseStarting, PhaseActive, PhaseParked},
	PhaseStopping: {PhaseDraining},
	PhaseKilled:   {PhaseStarting, PhaseStopping, PhaseDraining},
}

// become is the only way from one phase to the next.
func (m *Machine) become(g *generation, p Phase, timeout time.Duration) {
	mustFollow(m, generationAfter, g.phase, p, g)
	g.phase, g.since, g.deadline = p, m.now, time.Time{}
	if timeout > 0 {
		g.deadline = m.now.Add(timeout)
	}
	g.first = g.deadline
}

// watched tells whether the generation's own deadline is acted upon.
func (g *generation) watched() bool {
	switch g.phase {
	case PhaseStarting:
		return !g.leaving
	case PhaseDraining, PhaseStopping:
		return true
	}
	return false
}

func (m *Machine) expireGeneration(g *generation) {
	switch g.phase {
	case PhaseStarting:
		if m.try != nil && m.try.gen == g {
			m.fail(m.try.stage, nil, g.called()+" as a whole took longer than its stages together may take")
		}
	case PhaseDraining:
		m.cut(g, "it did not finish within drain.timeout ("+g.settings.DrainTimeout.String()+")")
	case PhaseStopping:
		m.become(g, PhaseKilled, killPatience)
		for _, w := range g.workers {
			m.kill(w, "it did not heed its stop signal")
		}
	}
}

func (g *generation) remove(w *worker) {
	for i, x := range g.workers {
		if x == w {
			g.workers = append(g.workers[:i:i], g.workers[i+1:]...)
			return
		}
	}
}

// count returns how many workers take connections from their slots.
func (g *generation) count() int {
	n := 0
	for _, w := range g.workers {
		if w.accepts() {
			n++
		}
	}
	return n
}

func (g *generation) alive() bool { return g != nil && g.count() > 0 }

// dismiss: nobody wants this generation any more.
func (m *Machine) dismiss(g *generation) {
	g.leaving, g.traffic = true, false
	if !g.clearing.IsZero() {
		return
	}
	for _, s := range g.seats {
		s.due = time.Time{}
	}
}

// park keeps a generation warm for a rollback.
func (m *Machine) park(g *generation) {
	g.traffic = false
	m.become(g, PhaseParked, 0)
	m.parked = g
	for _, s := range g.seats {
		s.due = time.Time{}
	}
	for _, w := range append([]*worker(nil), g.workers...) {
		w.leaving = false
		switch w.phase {
		case PhaseActive:
			m.turn(w, PhaseParked, 0)
			m.rehome()
			w.closes = m.closesParked(g)
			m.emit(Park{Worker: w.id, Close: w.closes})
		case PhaseStarting, PhaseChecking, PhaseWarming, PhaseChecked, PhaseActivating:
			m.kill(w, "its generation is parked and it never served")
		}
	}
}

// closesParked: connections of the parked generation are to come to the active one now, and
// not when it drains. Workers that speak the protocol move them in any case.
func (m *Machine) closesParked(g *generation) bool {
	return m.active.settings.ParkedClose && !g.settings.Beats
}

// checkClosing: nobody's connections are closed who has the traffic, or can move them.
func (m *Machine) checkClosing() {
	for _, w := range m.workers {
		switch {
		case w.closes && w.phase == PhaseActive:
			m.violate("%s is %s, and its connections are being closed", w.called(), w.phase)
		case w.closes && w.gen.settings.Beats:
			m.violate("%s speaks the protocol, and its connections are being closed", w.called())
		}
	}
}

// leave lets go what nobody wants any more and nothing is steered to.
func (m *Machine) leave() {
	for _, g := range append([]*generation(nil), m.generations...) {
		m.leaveOne(g)
	}
	m.boundDraining()
}

func (m *Machine) leaveOne(g *generation) {
	if g == m.parked && !g.alive() && !g.leaving {
		m.losePark("none of its workers is left")
	}
	if g.leaving && (g.phase == PhaseStarting || g.phase == PhaseActive || g.phase == PhaseParked) {
		if m.steersToAny(g) {
			return
		}
		if g.touched || g.phase != PhaseStarting {
			m.drainAll(g)
		} else {
			m.become(g, PhaseKilled, killPatience)
			for _, w := range g.workers {
				m.kill(w, "its rollout was given up")
			}
		}
	}
	if !g.leaving {
		for _, w := range append([]*worker(nil), g.workers...) {
			if w.leaving && w.phase == PhaseActive && m.spared(w) {
				m.drain(w)
			}
		}
		return
	}
	for _, w := range append([]*worker(nil), g.workers...) {
		if g.phase == PhaseDraining && w.phase == PhaseActive && m.spared(w) {
			m.drain(w) // it came for those who waited
		}
	}
	if len(g.workers) == 0 && !(g.queued && m.returns()) && (!g.clears() || m.stop != nil) && g.phase != PhaseStarting && g.phase != PhaseActive && g.phase != PhaseParked {
		m.forget(g)
	}
}

// drainAll: every worker finishes what it has; those that never served go at once.
func (m *Machine) drainAll(g *generation) {
	timeout := g.settings.DrainTimeout
	if timeout > 0 && !g.clearing.IsZero() {
		timeout = max(timeout, g.clearing.Sub(m.now)+g.settings.KillAfter)
	}
	m.become(g, PhaseDraining, timeout)
	g.counts = m.now.Add(leaveTime)
	for _, w := range append([]*worker(nil), g.workers...) {
		switch w.phase {
		case PhaseActive, PhaseParked:
			m.drain(w)
		case PhaseDraining, PhaseStopping, PhaseKilled:
		default:
			if g.clearing.IsZero() {
				m.kill(w, "its generation leaves and it never served")
			}
		}
	}
}

// forget ends a generation that has no worker left; its slots become vacant.
func (m *Machine) forget(g *generation) {
	for i, x := range m.generations {
		if x == g {
			m.generations = append(m.generations[:i:i], m.generations[i+1:]...)
			break
		}
	}
	m.vacate(g.slot)
	for _, s := range g.seats {
		if s.slot != g.slot {
			m.vacate(s.slot)
		}
	}
	m.retain()
}

// boundDraining cuts the oldest when too many drain at one time. One that has
// nothing open is gone in a moment, and must not cost another its clients: so
// the youngest counts a little later.
func (m *Machine) boundDraining() {
	n := 0
	for _, g := range m.generations {
		if g.phase == PhaseDraining && g.counts.IsZero() {
			n++
		}
	}
	if n > m.settings.MaxDraining {
		m.cutOldest("too many generations are draining")
	}
}

func (m *Machine) cutOldest(why string) bool {
	for _, g := range m.generations {
		if g.phase == PhaseDraining {
			m.cut(g, why)
			return true
		}
	}
	return false
}

func (m *Machine) cut(g *generation, why string) {
	m.clearOver(g)
	m.become(g, PhaseStopping, g.settings.KillAfter)
	for _, w := range g.workers {
		m.terminate(w, why)
	}
}

// losePark: there is nothing warm to go back to any more.
func (m *Machine) losePark(why string) {
	g := m.parked
	m.parked = nil
	m.dismiss(g)
	if b := m.bake; b != nil {
		m.report(b.made, b.deadline, g.called()+" is not parked any more: "+why)
	}
}

// pressed gives up the parked generation before the kernel chooses a victim.
func (m *Machine) pressed(detail string) {
	if m.parked == nil || !m.active.alive() {
		return
	}
	g := m.parked
	m.losePark("memory is short (" + detail + ")")
	m.record(Entry{What: "pressed", Origin: Internal, From: g.id, To: m.active.id, Version: g.version,
		Code: Done, Reason: "Memory is short (" + detail + "), so parked " + g.called() +
			" leaves; a rollback would start its version again."})
}
