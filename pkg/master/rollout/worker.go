package rollout

import "time"

// worker is one process. See the Phase constants for its life.
type worker struct {
	id      Worker
	gen     *generation
	seat    *seat // nil once it is not to come back: draining, stuck
	slot    Slot
	pid     int
	phase   Phase
	since   time.Time
	started time.Time

	deadline time.Time
	first    time.Time // the deadline as it was set; only push moves both
	asked    bool      // for more time, in this phase
	served   bool      // has taken connections
	retired  bool      // its place is given up with it (scaled down)
	leaving  bool      // drains as soon as nothing is steered to it
	exitBy   time.Time // said that it is drained, or that it leaves; should be gone by then
	wait     wait      // why it is not fit yet
	limit    string    // of its drain, and the key that sets it, for people
	cause    string    // why it was stopped or killed, the first reason; empty: it was not
	cut      Cut       // what it took with it, once it is gone
	stuck    bool      // KILL did not end it
	killDue  time.Time // next KILL of a stuck one

	passes    int  // checks passed in a row
	probing   bool // a Probe is not answered yet
	probeDue  time.Time
	answer    time.Time // by when the Probe must be answered
	failures  int
	failing   time.Time // since when
	failedAt  time.Time // the last time
	lastOK    time.Time
	lastProbe string

	beatDue time.Time // when silence means something
	silent  bool
	goes    bool          // it has said that it leaves
	every   time.Duration // its own word for Settings.Watchdog; zero: none
	dumped  bool
	// triggered: it asked for what its watchdog does; beatDue is when it is killed.
	triggered bool

	giving []Worker // who is given its connections, while it is parked or drains…
	share  *Split   // …or, of an active one, this share of them; nil: all
	closes bool     // while parked or draining: its connections are being closed
	untold bool     // what an earlier master told it of that is not known
}

var workerAfter = map[Phase][]Phase{
	PhaseStarting:   {""},
	PhaseChecking:   {PhaseStarting},
	PhaseWarming:    {PhaseStarting, PhaseChecking},
	PhaseChecked:    {PhaseStarting, PhaseChecking, PhaseWarming},
	PhaseActivating: {PhaseChecked},
	PhaseActive:     {PhaseActivating, PhaseParked},
	PhaseParked:     {PhaseActive},
	PhaseDraining:   {PhaseActive, PhaseParked},
	PhaseStopping:   {PhaseDraining, PhaseActive, PhaseParked},
	PhaseKilled: {PhaseStarting, PhaseChecking, PhaseWarming, PhaseChecked, PhaseActivating,
		PhaseActive, PhaseParked, PhaseDraining, PhaseStopping},
}

// turn is the only way of a worker from one phase to the next. Its deadline is
// set here, once; checking keeps the one of starting.
func (m *Machine) turn(w *worker, p Phase, timeout time.Duration) {
	mustFollow(m, workerAfter, w.phase, p, w)
	w.phase, w.since = p, m.now
	w.wait = wait{}
	if w.triggered && p != PhaseStopping && p != PhaseKilled {
		defer func(due time.Time) { w.beatDue = due }(w.beatDue)
	}
	if p == PhaseChecking {
		return
	}
	w.deadline = time.Time{}
	if timeout > 0 {
		w.deadline = m.now.Add(timeout)
	}
	if p == PhaseStopping || p == PhaseKilled {
		w.share = nil
	}
	w.first, w.asked = w.deadline, false
	w.probing, w.answer, w.probeDue = false, time.Time{}, time.Time{}
	if p == PhaseActive {
		w.giving, w.share, w.closes = nil, nil, false // its Activate says so
	}
	switch p {
	case PhaseActive, PhaseParked:
		if w.gen.settings.Probe {
			w.probeDue = m.now.Add(w.gen.settings.ActiveInterval)
		}
		if w.beatDue.IsZero() {
			m.heard(w)
		}
	case PhaseDraining:
		// What is silent now goes on being so: a worker that hangs never
		// finishes what others wait for.
		if !w.gen.settings.Beats {
			w.beatDue = time.Time{} // whoever leaves feeds no watchdog any more
		} else if w.beatDue.IsZero() {
			m.heard(w)
		}
	default:
		w.beatDue = time.Time{}
	}
}

// accepts: it has its slots and takes connections from them.
func (w *worker) accepts() bool { return w.phase == PhaseActive || w.phase == PhaseParked }

// man starts a worker on a seat. Replacements come this way too.
func (m *Machine) man(g *generation, s *seat) {
	s.due = time.Time{}
	if s.slot == noSlot {
		if s.slot = m.take(g); s.slot == noSlot {
			s.due = m.now.Add(slotAgain)
			return
		}
	}
	m.nextWorker++
	w := &worker{id: m.nextWorker, gen: g, seat: s, slot: s.slot, started: m.now}
	m.workers[w.id] = w
	g.workers = append(g.workers, w)
	m.turn(w, PhaseStarting, g.settings.StartTimeout)
	if !g.settings.Beats {
		m.slots[s.slot].relieved = false // it is given the slot before it starts
	}
	m.emit(Start{Worker: w.id, Generation: g.id, Slot: s.slot, Version: g.version, Replaces: s.last})
	if s.last != 0 {
		s.restarts++
	}
	s.worker, s.last = w, w.id
}

func (m *Machine) started(w *worker, pid int) {
	w.pid = pid
	if w.phase == PhaseStarting && !w.gen.settings.tellsReady() {
		m.ready(w)
	}
}

// tellsReady: Ready is a fact of its own.
func (s Settings) tellsReady() bool { return s.Beats || s.SaysReady }

// extend gives a worker the time that it asks for, and what waits for it too. It may
// ask again, up to a limit: others wait for its end.
func (m *Machine) extend(w *worker, by time.Duration) {
	begun := w.since
	if w.phase == PhaseChecking { // its time is that of the start
		begun = w.started
	}
	until := m.now.Add(min(by, extendMost))
	if last := begun.Add(extendSum); until.After(last) {
		until = last
	}
	w.asked = true
	m.hopes(w)
	later := func(deadline, first *time.Time) {
		if !deadline.IsZero() && deadline.Before(until) {
			*deadline, *first = until, until
		}
	}
	later(&w.deadline, &w.first)
	if a := m.try; m.candidate(w.gen) && (a.stage == StageStart || a.stage == StageCheck) {
		later(&a.deadline, &a.first)
		whole := until.Add(w.gen.settings.candidateTimeout(a.one) - w.gen.settings.StartTimeout)
		if g := w.gen; g.deadline.Before(whole) {
			g.deadline, g.first = whole, whole
		}
	}
	if w.phase == PhaseDraining || w.phase == PhaseStopping {
		later(&w.gen.deadline, &w.gen.first)
		if a := m.try; a != nil && a.stage == StageDrain {
			until = until.Add(w.gen.settings.KillAfter + killPatience)
			later(&a.deadline, &a.first)
			m.boundCandidate(a, a.deadline)
		}
	}
}

// leaves: it ends by itself, so whoever else serves is to be steered to. One that
// says so and stays is stopped when a drain would be over.
func (m *Machine) leaves(w *worker) {
	if w.triggered {
		return // it is ended sooner
	}
	w.goes, w.silent, w.beatDue = true, true, time.Time{}
	if t := w.gen.settings.DrainTimeout; t > 0 {
		w.exitBy = m.now.Add(t)
	}
}

func (m *Machine) ready(w *worker) {
	m.turn(w, PhaseChecking, 0)
	if w.gen.settings.Probe {
		m.probe(w)
		return
	}
	m.passed(w)
}

// passed: the health checks are behind it.
func (m *Machine) passed(w *worker) {
	if w.gen.settings.Warmup {
		m.turn(w, PhaseWarming, w.gen.settings.WarmTimeout)
		m.emit(Warm{Worker: w.id})
		return
	}
	m.checked(w)
}

func (m *Machine) warmed(w *worker, ok bool, detail string) {
	if !ok {
		m.unfit(w, "its warm-up failed: "+detail)
		return
	}
	m.checked(w)
}

// checked: a candidate waits for its siblings, anybody else serves at once.
func (m *Machine) checked(w *worker) {
	s := w.gen.settings
	m.turn(w, PhaseChecked, s.StartTimeout+s.WarmTimeout+2*s.SaveTimeout)
	if !m.candidate(w.gen) {
		m.activate(w)
	}
}

func (m *Machine) activate(w *worker) {
	m.turn(w, PhaseActivating, w.gen.settings.AcceptTimeout)
	m.emit(Activate{Worker: w.id})
}

func (m *Machine) accepting(w *worker) {
	m.turn(w, PhaseActive, 0)
	w.served = true
	if m.stop != nil {
		m.emit(Announce{Worker: w.id})
	}
}

// candidate: the generation is the running rollout's and not in service yet.
func (m *Machine) candidate(g *generation) bool { return m.try != nil && m.try.gen == g }

// unfit: a worker that was to serve will not.
func (m *Machine) unfit(w *worker, why string) {
	stage := stageOf(w.phase)
	switch {
	case m.candidate(w.gen):
		m.fail(stage, w, why)
	case w.seat != nil && w.seat.fresh && m.scale != nil:
		m.scaleFailed(w, why)
		m.kill(w, why)
	default:
		m.kill(w, why)
	}
}

// startTime is what a worker has to start, for people.
func (s Settings) startTime(w *worker) string {
	if w.asked {
		return s.StartTimeout.String() + ", nor in the time it asked for"
	}
	return s.StartTimeout.String()
}

// expire: the worker's phase has lasted too long.
func (m *Machine) expire(w *worker) {
	s := w.gen.settings
	switch w.phase {
	case PhaseStarting:
		why := "it was not ready within " + s.startTime(w)
		if w.wait.what != "" {
			why += ": " + w.wait.what
		}
		m.unfit(w, why)
	case PhaseChecking:
		why := "it did not pass its health checks within " + s.startTime(w)
		if w.lastProbe != "" {
			why += " (the last failed one: " + w.lastProbe + ")"
		}
		m.unfit(w, why)
	case PhaseWarming:
		m.unfit(w, "its warm-up took longer than "+s.WarmTimeout.String())
	case PhaseChecked:
		m.unfit(w, "it had passed its checks and waited too long for the others")
	case PhaseActivating:
		m.unfit(w, "it did not take its listeners within "+s.AcceptTimeout.String())
	case PhaseDraining:
		m.terminate(w, "it did not finish within "+w.limit)
	case PhaseStopping:
		m.kill(w, "it did not heed its stop signal")
	case PhaseKilled:
		m.giveUp(w)
	}
}

// drain takes a worker off its seat: whoever comes next does not wait for it.
func (m *Machine) drain(w *worker) {
	timeout := w.gen.settings.DrainTimeout
	if w.gen.aside {
		timeout = w.gen.settings.drainAlone()
	}
	m.drainFor(w, timeout, "drain.timeout")
}

func (m *Machine) drainFor(w *worker, timeout time.Duration, key string) {
	m.unseat(w)
	w.limit = key + " (" + timeout.String() + ")"
	m.turn(w, PhaseDraining, timeout)
	m.rehome()
	m.emit(Drain{Worker: w.id, Deadline: w.deadline})
}

// unseat: the worker keeps its slot until it is gone, the seat gets another.
func (m *Machine) unseat(w *worker) {
	s := w.seat
	if s == nil {
		return
	}
	w.seat, s.worker = nil, nil
	if s.slot != w.gen.slot {
		s.slot = noSlot
	}
	if w.retired {
		w.gen.removeSeat(s)
	}
}

func (g *generation) removeSeat(s *seat) {
	for i, x := range g.seats {
		if x == s {
			g.seats = append(g.seats[:i:i], g.seats[i+1:]...)
			return
		}
	}
}

func (m *Machine) drained(w *worker) {
	if w.exitBy.IsZero() {
		w.exitBy = m.now.Add(w.gen.settings.KillAfter)
		w.beatDue = time.Time{} // these were its last words
	}
}

func (m *Machine) terminate(w *worker, why string) {
	switch w.phase {
	case PhaseDraining, PhaseActive, PhaseParked:
		w.exitBy = time.Time{}
		w.blame(why)
		m.turn(w, PhaseStopping, w.gen.settings.KillAfter)
		m.emit(Terminate{Worker: w.id, Why: why})
	}
}

func (m *Machine) kill(w *worker, why string) {
	if w.phase == PhaseKilled {
		return
	}
	w.exitBy = time.Time{}
	w.blame(why)
	m.turn(w, PhaseKilled, killPatience)
	m.emit(Kill{Worker: w.id, Why: why})
}

// giveUp: KILL did not end it (it hangs in the kernel). It stays visible, keeps
// its slot and loses its seat.
func (m *Machine) giveUp(w *worker) {
	w.stuck = true
	w.killDue = m.now.Add(killAgain)
	s, g := w.seat, w.gen
	m.unseat(w)
	if s != nil && !w.retired {
		m.bereave(g, s, w, "could not be killed")
	}
}

// gone is the end of every worker. What it means depends on whose it was.
func (m *Machine) gone(w *worker, how string, cut Cut) {
	w.cut = cut
	told := len(m.crashes)
	m.leaveSeat(w, how)
	if len(m.crashes) == told { // else its crash tells it
		m.tellCut(w, how)
	}
}

// leaveSeat takes it out of all tables.
func (m *Machine) leaveSeat(w *worker, how string) {
	g, s := w.gen, w.seat
	delete(m.workers, w.id)
	g.remove(w)
	if s == nil {
		if w.slot != g.slot {
			m.vacate(w.slot)
		}
		return
	}
	s.worker = nil
	if w.retired {
		g.removeSeat(s)
		if s.slot != g.slot {
			m.vacate(s.slot)
		}
		return
	}
	m.bereave(g, s, w, how)
}

// bereave: somebody who was not told to go is not there any more.
func (m *Machine) bereave(g *generation, s *seat, w *worker, how string) {
	switch {
	case g.leaving && !g.clearing.IsZero() && !m.ending():
		m.replace(g, s)
	case m.ending() || g.leaving || g == m.parked || g.aside:
	case m.candidate(g) && (m.try.stage == StageMinReady || m.try.stage == StageCanary):
		m.fail(m.try.stage, w, "it "+how)
	case m.candidate(g):
		m.fail(stageOf(w.phase), w, "it "+how)
	case g == m.active:
		if w.cause != "" {
			how += ", as " + w.cause
		}
		if s.fresh && m.scale != nil {
			m.scaleFailed(w, "it "+how)
			return
		}
		if w.served {
			m.crashes = append(m.crashes, w.crash(how))
		} else {
			m.tellVerdict("; and " + g.called() + " did not come up again at once: " + blame(w, "it "+how) + "; masterd starts it again and again")
		}
		if b := m.bake; b != nil && b.fault == "" {
			b.fault, b.faulty = w.called()+" "+how, w.id
		}
		if m.try == nil || !m.moved(m.try) || m.try.splits() {
			m.replace(g, s)
		}
		m.countExit(g, w, how)
	}
}
