package rollout

import "time"

// A candidate that can be judged does not take the rest of the traffic before the comparison
// has passed it: at the end of its last step it waits for more connections to be judged by. After
// MaxWait it is paused, goes on, or is taken back. Where nothing can be compared nothing waits,
// and a person's promote never does.

// Inconclusive is what becomes of a candidate that had too few connections to be judged.
type Inconclusive string

const (
	// InconclusivePause stops the clock of its steps, until a person decides.
	InconclusivePause Inconclusive = "pause"
	// InconclusivePromote has it go on all the same.
	InconclusivePromote Inconclusive = "promote"
	// InconclusiveRollback takes it back.
	InconclusiveRollback Inconclusive = "rollback"
)

// draws: each new connection is drawn by itself, and workers of both versions count those with
// errors.
func (m *Machine) draws(a *attempt) bool {
	return a.sticky() == 0 && a.gen.settings.Beats && m.active != nil && m.active.settings.Beats
}

// awaits: the end of its step waits for what is compared.
func (m *Machine) awaits(a *attempt) bool {
	return a.settings.MaxWait > 0 && a.canary.step == len(a.steps()) && !a.canary.settled && m.draws(a)
}

// awaited is what follows when no verdict comes; empty: none is waited for.
func (a *attempt) awaited() Inconclusive {
	switch {
	case !a.canary.waits || a.canary.settled:
		return ""
	case a.settings.WhenInconclusive == InconclusivePromote, a.settings.WhenInconclusive == InconclusiveRollback:
		return a.settings.WhenInconclusive
	}
	return InconclusivePause
}

// does is what it means, for people.
func (i Inconclusive) does() string {
	switch i {
	case InconclusivePromote:
		return "it goes on"
	case InconclusiveRollback:
		return "it is taken back"
	}
	return "it is paused"
}

// stepOver: the time of a step is up, or of what came after it.
func (m *Machine) stepOver(a *attempt) {
	switch {
	case a.canary.waits:
		m.waitOver(a)
	case a.closing.IsZero() && m.awaits(a):
		a.canary.waits = true
		m.windStep(a)
	default:
		m.besideOver(a)
	}
}

// waitOver: it has waited for long enough.
func (m *Machine) waitOver(a *attempt) {
	why := "too few connections came to judge it by within " + a.settings.MaxWait.String() + ", its rollout.analysis.max_wait"
	switch what := a.awaited(); {
	case what == InconclusivePromote:
		a.canary.settled = true
		m.report(a, time.Time{}, a.atStep()+"; "+why+"; it goes on without")
	case what == InconclusiveRollback && m.active.alive():
		// Its version is not closed to automation: nothing bad is known of it.
		m.fail(a.stage, nil, why)
	case what == InconclusiveRollback:
		a.deadline = m.now.Add(a.settings.checkTime())
		a.first = a.deadline
		if why += ", but no worker of " + m.active.called() + " is alive; it waits"; a.complaint != why {
			a.complaint = why
			m.report(a, a.deadline, a.atStep()+"; "+why)
		}
	default:
		by := who("", Internal)
		a.canary.paused = by + because(why)
		m.windStep(a)
		m.record(Entry{What: "pause", By: by, Origin: Internal, From: m.active.id, To: a.gen.id, Version: a.gen.version, Code: Done,
			Reason: sentence(a.gen.called() + " is paused at " + a.atStep() + ": " + why + "; `masterd promote` goes on")})
	}
}

// endWait has a candidate that waits go on, once nothing is waited for: after its workers have
// passed a check again, as at the end of each step.
func (m *Machine) endWait(a *attempt) bool {
	if !a.canary.waits || a.canary.paused != "" || m.awaits(a) {
		return false
	}
	a.canary.waits = false
	m.besideOver(a)
	return true
}

// settled: the comparison has passed the candidate, or there is none. why says so, as a part of a
// sentence, where it does not go without saying.
func (m *Machine) settled(why string) {
	a := m.try
	if a.canary.settled {
		return
	}
	a.canary.settled = true
	if a.canary.waits {
		m.report(a, time.Time{}, a.atStep()+"; "+why+a.waitsFor())
	}
}

// compares: the rollout is one that what is compared can still change something for.
func (m *Machine) compares(id Rollout) bool { return m.try != nil && m.try.id == id && m.try.splits() }

// checkWait: what waits for a verdict is at its last step.
func (m *Machine) checkWait() {
	if a := m.try; a != nil && a.canary.waits && (a.stage != StageCanary || a.canary.step != len(a.steps()) || a.settings.MaxWait <= 0) {
		m.violate("%s waits for a verdict at stage %s, step %d of %d", a.called(), a.stage, a.canary.step, len(a.steps()))
	}
}
