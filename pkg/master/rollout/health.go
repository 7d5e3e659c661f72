package rollout

import (
	"cmp"
	"time"
)

// probe checks one worker, once.
func (m *Machine) probe(w *worker) {
	t := w.gen.settings.ActiveTimeout
	w.probing, w.probeDue = true, time.Time{}
	w.answer = m.now.Add(t + probeSlack)
	m.emit(Probe{Worker: w.id, Timeout: t})
}

// probed takes the answer. A candidate has to pass so many in a row; a failure
// only makes it begin again, until StartTimeout. Of an active or parked worker
// the failures are counted and shown; they are no reason to kill it.
func (m *Machine) probed(w *worker, ev Probed) {
	ok, detail := ev.OK, ev.Detail
	if w.phase == PhaseChecking {
		detail = cmp.Or(ev.Refusal, detail) // it says what to set
	}
	w.probing, w.answer = false, time.Time{}
	s := w.gen.settings
	if ok {
		w.lastOK, w.failures = m.now, 0
		w.passes++
	} else {
		if w.failures == 0 {
			w.failing = m.now
		}
		w.failures++
		w.passes, w.failedAt = 0, m.now
		w.lastProbe = detail
	}
	switch w.phase {
	case PhaseChecking:
		if !ok {
			if m.refused(w, ev) {
				return
			}
			w.probeDue = m.now.Add(s.StartInterval)
			if a := m.try; m.candidate(w.gen) && a.complaint != detail {
				a.complaint = detail
				m.report(a, a.deadline, w.called()+" fails its health check: "+detail)
			}
			return
		}
		m.hopes(w)
		if w.passes >= s.StartSuccesses {
			m.passed(w)
			return
		}
		w.probeDue = m.now.Add(s.StartInterval)
	case PhaseActive, PhaseParked:
		w.probeDue = m.now.Add(s.ActiveInterval)
	}
}

// tellHealth writes down that the version that serves has begun to fail its
// checks, and that it passes them again: each once, however many workers and
// checks it is about.
func (m *Machine) tellHealth() {
	g := m.active
	if g == nil || m.ending() {
		return
	}
	e := Entry{Origin: Internal, From: g.id, To: g.id, Version: g.version, Stage: StageServing}
	switch bad := g.unhealthy(); {
	case bad != nil && g.sick.IsZero():
		g.sick = bad.failing
		e.What, e.Code, e.Worker, e.Reason = "unhealthy", Failed, bad.id, sentence(bad.called()+" "+bad.failed()+"; it serves on")
	case bad == nil && !g.sick.IsZero() && g.recovered():
		e.What, e.Code = "healthy", Done
		e.Reason = sentence(g.called() + " passes its health checks again, after " + m.now.Sub(g.sick).Round(time.Second).String())
		g.sick = time.Time{}
	default:
		return
	}
	m.record(e)
}

// recovered: every worker passes its checks, as many in a row as a new one has to.
// One that passes now and then is not told of each time.
func (g *generation) recovered() bool {
	for _, w := range g.workers {
		if w.phase == PhaseActive && (w.failures > 0 || w.passes < g.settings.StartSuccesses) {
			return false
		}
	}
	return g.alive()
}

// beat: the worker's loop turns. It tells whether nothing else follows from it.
func (m *Machine) beat(w *worker) (quiet bool) {
	was := w.silent
	m.heard(w)
	return !was
}

// heard starts the worker's silence anew.
func (m *Machine) heard(w *worker) {
	s := w.gen.settings
	if w.goes || w.triggered {
		return
	}
	if w.dumped && !s.Beats {
		w.cause = ""
	}
	w.silent, w.dumped = false, false
	switch heard := w.accepts() || w.phase == PhaseDraining && w.exitBy.IsZero(); {
	case heard && s.Beats:
		w.beatDue = m.now.Add(s.BeatInterval*time.Duration(s.BeatsSteer) + s.BeatInterval/2)
	case s.Watchdog > 0 && w.accepts():
		w.beatDue = m.now.Add(w.watchdog())
	}
}

// watchdog is how long the worker may be silent.
func (w *worker) watchdog() time.Duration { return cmp.Or(w.every, w.gen.settings.Watchdog) }

// pace: it feeds its watchdog at another pace, and this counts as the first time.
func (m *Machine) pace(w *worker, every time.Duration) {
	w.every = min(max(every, watchdogLeast), watchdogMost)
	m.heard(w)
}

// missed: the worker has been silent for too long. First it is steered away,
// then asked for its stacks, then killed; the last two only while another one
// serves: beats alone never cost the last one its life. A parked one is only
// noted: it would be a bad place to go back to. A draining one serves nobody
// new and can never finish: it is killed whoever else there is.
func (m *Machine) missed(w *worker) {
	s := w.gen.settings
	if !s.Beats || w.triggered {
		m.unfed(w)
		return
	}
	switch {
	case !w.silent:
		w.silent = true
		w.beatDue = m.now.Add(s.BeatInterval * time.Duration(s.BeatsKill))
	case w.phase == PhaseParked || w.phase != PhaseDraining && !m.othersServe(w):
		w.beatDue = m.now.Add(s.BeatInterval)
	case !w.dumped:
		w.dumped = true
		w.beatDue = m.now.Add(dumpTime)
		m.emit(Dump{Worker: w.id})
	default:
		m.condemn(w, "it has not been heard of for "+span(s.BeatInterval*time.Duration(s.BeatsSteer+s.BeatsKill)))
	}
}

// unfed: a worker's watchdog has run out.
func (m *Machine) unfed(w *worker) {
	if !w.dumped {
		w.silent, w.dumped = true, true
		w.beatDue = m.now.Add(dumpTime)
		w.blame(w.hungry()) // it may end of being asked
		m.emit(Dump{Worker: w.id})
		return
	}
	m.condemn(w, w.hungry())
}

// condemn kills a worker that hangs. A rollout that it belongs to ends now: until it is
// gone its traffic may have no other place.
func (m *Machine) condemn(w *worker, why string) {
	if m.candidate(w.gen) {
		m.fail(m.try.stage, w, why)
	}
	m.unfit(w, why)
}

// trigger begins what a watchdog does that has run out. Nothing that the worker
// says later takes it back: a program that fed its watchdog from another thread
// would live on after it had given itself up.
func (m *Machine) trigger(w *worker) {
	if w.triggered {
		return
	}
	w.triggered, w.silent, w.dumped = true, true, true
	w.beatDue = m.now.Add(dumpTime)
	w.blame(w.hungry())
	m.emit(Dump{Worker: w.id})
}

func (w *worker) hungry() string {
	if w.triggered {
		return "its watchdog was triggered by itself (WATCHDOG=trigger)"
	}
	return "it did not feed its watchdog within " + span(w.watchdog())
}

// othersServe: somebody else who is heard of has the traffic too, as far as is
// known and not only as it was meant.
func (m *Machine) othersServe(w *worker) bool {
	for _, g := range m.generations {
		for _, x := range g.workers {
			if x != w && x.phase == PhaseActive && g.traffic && !x.leaving && !x.silent && inShares(m.steering.have, x.slot) {
				return true
			}
		}
	}
	return false
}
