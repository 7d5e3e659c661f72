package rollout

import (
	"fmt"
	"time"
)

// Whether there is memory for two is looked at first. While the candidate serves beside the
// generation before, by steps or one worker after the other, it is held to what that does; of
// workers that come one after the other, each has an old one leave.

// fits looks at memory: all at once, one by one, or a refusal with figures.
func (m *Machine) fits(a *attempt) (one bool, refusal string) {
	s, mem := a.settings, a.prepared.Memory
	if a.alone = s.SurgeReplace && (m.active != nil || len(m.workers) > 0); a.alone {
		return false, "" // it has the memory of who ends for it
	}
	whole := len(s.Steps) > 0 // steps need both versions whole
	one = s.SurgeOne && s.Processes > 1 && m.active.alive() && !whole
	if !mem.Known || !m.active.alive() {
		return one, ""
	}
	count := uint64(s.Processes)
	if one {
		count = 1
	}
	need := mem.PerWorker * count
	if mem.Available >= need+s.MemoryReserve {
		return one, ""
	}
	if !one && !whole && s.ShortOne && s.Processes > 1 && mem.Available >= mem.PerWorker+s.MemoryReserve {
		m.report(a, a.deadline, "memory is short, workers are replaced one by one")
		return true, ""
	}
	return one, fmt.Sprintf("memory is short: %s at %s each need %s beside what runs now, and %s must stay free, but only %s are available",
		number(int(count), "worker"), mebibytes(mem.PerWorker), mebibytes(need), mebibytes(s.MemoryReserve), mebibytes(mem.Available))
}

// proven: the workers that serve beside the old ones have done so for long enough.
func (m *Machine) proven(a *attempt) bool {
	if a.closing.IsZero() {
		return false
	}
	_, why := m.unproven(a.gen, a.closing)
	return why == ""
}

// besideOver: the time of MinReady, or of a step, is up. As at the end of a bake every
// worker is asked once more, and one that does not pass ends the rollout, unless the old
// ones do not pass either: then nothing would be won.
func (m *Machine) besideOver(a *attempt) {
	over := "rollout.min_ready is over and "
	if a.stage == StageCanary {
		over = "the time of its step (" + a.atStep() + ") is over and "
	}
	a.deadline = m.now.Add(a.settings.checkTime())
	a.first = a.deadline
	if a.closing.IsZero() {
		a.closing = m.now
		m.askAgain(a.gen)
		return
	}
	w, why := m.unproven(a.gen, a.closing)
	switch fails := w != nil && w.failures > 0; {
	case fails && m.active.passesWhere(w), !fails && m.active.fit(a.closing):
		m.fail(a.stage, w, over+why)
	case !m.askFit(m.active, a.closing) && a.complaint != why:
		a.complaint = why
		m.report(a, a.deadline, over+why+", but the old workers are no better; it waits")
	}
}

// judgeOne takes back a rollout that replaces one worker at a time, or goes by steps, when
// a new worker fails its checks and the old ones pass them.
func (m *Machine) judgeOne() {
	a := m.try
	if a == nil || !a.one && !a.splits() || !m.moved(a) || !m.active.alive() {
		return
	}
	bad := a.gen.unhealthy()
	if bad == nil {
		return
	}
	if m.active.passesWhere(bad) {
		m.fail(a.stage, bad, "it "+bad.failed())
		return
	}
	m.askFit(m.active, bad.failing)
}

// complete: every worker of the candidate accepts.
func (m *Machine) complete(a *attempt) bool {
	return a.gen.count() == len(a.gen.seats)
}

// yield chooses which of the old workers make room for those that accept now.
// One stays in any case: it is what a rollback goes to.
func (m *Machine) yield(a *attempt) {
	a.yielded = true
	old, done, all := m.active, a.gen.count(), len(a.gen.seats)
	keep := max(1, (len(old.seats)*(all-done)+all-1)/all)
	staying := 0
	for _, w := range old.workers {
		if w.phase == PhaseActive && !w.leaving {
			if staying++; staying > keep {
				w.leaving = true
				a.leaver = w
			}
		}
	}
}

// stopReplacing has nobody come back to the old generation while the next one comes.
func (m *Machine) stopReplacing(old *generation) {
	for _, s := range old.seats {
		s.due = time.Time{}
		if w := s.worker; w != nil && !w.accepts() {
			m.kill(w, "its place is taken by the next generation")
		}
	}
}

// nextOne starts the next worker of a surge one, once an old one has made room
// for it in memory too.
func (m *Machine) nextOne(a *attempt) bool {
	if !a.yielded {
		m.yield(a)
	}
	if w := a.leaver; w != nil && m.workers[w.id] == w {
		if a.goneBy.IsZero() {
			wait := w.gen.settings.DrainTimeout
			if wait == 0 {
				wait = surgePatience
			}
			a.goneBy = m.now.Add(wait + w.gen.settings.KillAfter + killPatience)
			a.deadline, a.first = time.Time{}, time.Time{} // goneBy is this wait's
		}
		return false
	}
	a.leaver, a.goneBy = nil, time.Time{}
	if a.stage == StageMinReady && m.active.alive() && !m.proven(a) { // one has turned sick since
		if a.deadline.IsZero() {
			a.deadline = m.now.Add(a.settings.checkTime())
			a.first = a.deadline
		}
		return false
	}
	m.startBatch(a)
	return true
}
