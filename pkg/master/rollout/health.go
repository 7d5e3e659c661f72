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
func (m *Machine) probed(w *worker, ok bool, detail string) {
	w.probing, w.answer = false, time.Time{}
	s := w.gen.settings
	if ok {
		w.lastOK, w.failures = m.now, 0
	} else {
		if w.failures == 0 {
			w.failing = m.now
		}
		w.failures++
		w.lastProbe = detail
	}
	switch w.phase {
	case PhaseChecking:
		if !ok {
			w.passes = 0
			w.probeDue = m.now.Add(s.StartInterval)
			if a := m.try; m.candidate(w.gen) && a.complaint != detail {
				a.complaint = detail
				m.report(a, a.deadline, w.called()+" fails its health check: "+detail)
			}
			return
		}
		w.passes++
		if w.passes >= s.StartSuccesses {
			m.passed(w)
			return
		}
		w.probeDue = m.now.Add(s.StartInterval)
	case PhaseActive, PhaseParked:
		w.probeDue = m.now.Add(s.ActiveInterval)
	}
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
		m.kill(w, "it has not been heard of for "+span(s.BeatInterval*time.Duration(s.BeatsSteer+s.BeatsKill)))
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
	if w.triggered {
		m.unfit(w, w.hungry()) // it may be a candidate
		return
	}
	m.kill(w, w.hungry())
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
