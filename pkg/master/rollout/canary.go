package rollout

import (
	"strconv"
	"time"
)

// A canary goes by steps: the candidate has a share of the connections, then a larger one,
// and in the end all. Until then both generations have traffic, and the candidate is held to
// what the one before does: its first death ends the rollout, and so do checks that fail at
// the candidate alone. Everything goes back then. While nobody of the one before is alive the
// candidate has all, and no more than its share again once a replacement is.

// canary is where a rollout is on its steps.
type canary struct {
	step   int    // that is in force, or about to be, from 1; zero: none yet; beyond the last: all the traffic
	paused string // by whom and why, as a part of a sentence; empty: it is not

	waits   bool // its last step is over, and it waits for a verdict
	settled bool // none is waited for any more: it passed, or goes without
}

// steps of a rollout, none: its candidate has all the traffic at once.
func (a *attempt) steps() []Step { return a.settings.Steps }

// splits: both generations are meant to have traffic.
func (a *attempt) splits() bool { return a.canary.step > 0 && a.canary.step <= len(a.steps()) }

// stepping: the candidate has had a share.
func (a *attempt) stepping() bool { return len(a.steps()) > 0 && a.canary.step > 0 }

// hold is how long its step lasts; zero: until a person ends it.
func (a *attempt) hold() time.Duration {
	switch {
	case a.canary.paused != "":
		return 0
	case a.canary.waits:
		return a.settings.MaxWait
	}
	return a.steps()[a.canary.step-1].Hold
}

// waitsForPerson: no time ends its step.
func (a *attempt) waitsForPerson() bool { return a.stage == StageCanary && a.hold() == 0 }

// sticky seeds the hash by which clients belong to the candidate, anew for each rollout; zero:
// connections draw.
func (a *attempt) sticky() uint32 { return sticky(a.settings, a.id) }

func sticky(s Settings, id Rollout) uint32 {
	if !s.Sticky {
		return 0
	}
	return uint32(id)
}

// Sticky is what the shares that are known to be in force were steered with. Nothing is made
// of it where none of them is a canary's.
func (s Snapshot) Sticky() uint32 {
	if s.Try == nil {
		return 0
	}
	return sticky(s.Try.Settings, s.Try.ID)
}

// dropSteps takes the steps of a rollout that goes without: a way back waits for nothing, a
// version that must be alone shares with nobody, and nor does one that follows nobody.
func (m *Machine) dropSteps(a *attempt) {
	switch {
	case len(a.steps()) == 0:
	case a.version != nil, a.settings.SurgeReplace, !m.active.alive():
		a.settings.Steps = nil
	case a.settings.SkipBaked && m.wasBaked(a.prepared.Version):
		a.settings.Steps = nil
		m.report(a, a.deadline, "this version was baked before and goes without steps (rollout.canary.skip_baked)")
	}
}

func (m *Machine) wasBaked(v Version) bool {
	for _, kept := range m.state.Kept {
		if kept.ID == v.ID {
			return true
		}
	}
	return false
}

// nextStep is the number of the step that follows; beyond the last one is all the traffic.
func (a *attempt) nextStep(all bool) int {
	if all {
		return len(a.steps()) + 1
	}
	return min(a.canary.step, len(a.steps())) + 1
}

// holdStep: the share of a step is in force, and stays for its time.
func (m *Machine) holdStep(a *attempt) {
	a.closing = time.Time{}
	a.gen.deadline, a.gen.first = time.Time{}, time.Time{} // each step has a time of its own
	m.enter(a, StageCanary, a.hold(), a.atStep()+a.waitsFor())
}

// windStep has the time of a step begin anew, or stop.
func (m *Machine) windStep(a *attempt) {
	if a.stage != StageCanary {
		return
	}
	a.closing, a.deadline = time.Time{}, time.Time{}
	if m.endWait(a) {
		return
	}
	if hold := a.hold(); hold > 0 {
		a.deadline = m.now.Add(hold)
	}
	a.first = a.deadline
	m.report(a, a.deadline, a.atStep()+a.waitsFor())
}

// advanceStep takes the next step once the time of this one is over and every worker of the
// candidate has passed a check since.
func (m *Machine) advanceStep(a *attempt) bool {
	m.endWait(a)
	if !m.proven(a) {
		return false
	}
	m.takeStep(a, a.nextStep(false))
	return true
}

func (m *Machine) takeStep(a *attempt, step int) {
	a.canary.step, a.canary.waits = step, false
	m.moveTraffic(a)
}

// atStep is where it is, for people.
func (a *attempt) atStep() string {
	if !a.splits() {
		return "all new connections"
	}
	n := a.canary.step
	return percent(a.steps()[n-1].Weight) + " of new connections, step " + strconv.Itoa(n) + " of " + strconv.Itoa(len(a.steps()))
}

// waitsFor is what ends a step that no time ends, for people; empty: its time does.
func (a *attempt) waitsFor() string {
	what := a.awaited()
	switch {
	case a.canary.paused != "" && what != "":
		return "; paused by " + a.canary.paused + ", `masterd promote` goes on, `masterd resume` waits once more"
	case a.canary.paused != "":
		return "; paused by " + a.canary.paused + ", `masterd resume` goes on"
	case what != "":
		return "; waits for more connections to be judged by (without enough " + what.does() + ")"
	case a.hold() == 0:
		return "; waits for `masterd promote`"
	}
	return ""
}

// percent of Whole, as the command line writes it.
func percent(weight uint32) string {
	return strconv.FormatFloat(float64(weight)/100, 'f', -1, 64) + "%"
}

// promoteStep takes the next step now, or all.
func (m *Machine) promoteStep(a *attempt, ev PromoteAsked) {
	if a.stage != StageCanary {
		m.refuse(ev.Req, Superseded, "the traffic of "+a.called()+" is just being moved ("+a.atStep()+"); ask again")
		return
	}
	m.noteOf(a.gen, "promote", ev.By, ev.Why)
	m.takeStep(a, a.nextStep(ev.All))
	m.afterSteer(Reply{Req: ev.Req, Rollout: a.id, Generation: a.gen.id, Version: a.gen.version, Code: Done,
		Reason: sentence(a.gen.called() + " gets " + a.atStep())})
}

// pauseAsked stops the clock of the steps.
func (m *Machine) pauseAsked(ev PauseAsked) {
	a := m.try
	switch {
	case a == nil || len(a.steps()) == 0 || a.canary.step > len(a.steps()):
		m.refuse(ev.Req, Invalid, "no rollout with steps is running, there is nothing to pause; `masterd hold` refuses reloads")
		return
	case a.canary.paused != "":
		m.refuse(ev.Req, Invalid, a.called()+" was paused by "+a.canary.paused+" already; `masterd resume` goes on")
		return
	}
	a.canary.paused = who(ev.By, Person) + because(ev.Why)
	where := "before its first step"
	if a.splits() {
		where = "at " + a.atStep()
	}
	m.windStep(a)
	m.noteOf(a.gen, "pause", ev.By, ev.Why)
	m.done(ev.Req, a.called()+" is paused "+where+"; `masterd resume` goes on, `masterd promote` takes the next step")
}

// resumeAsked lets the clock of the steps run again, from the beginning of this one.
func (m *Machine) resumeAsked(ev ResumeAsked) {
	a := m.try
	if a == nil || a.canary.paused == "" {
		m.refuse(ev.Req, Invalid, "no rollout is paused, there is nothing to resume")
		return
	}
	a.canary.paused = ""
	m.windStep(a)
	m.noteOf(a.gen, "resume", ev.By, ev.Why)
	m.done(ev.Req, a.called()+" goes on")
}

// split is the share of the idle connections of the generation before that belongs to the
// candidate, by what is known to be in force; nil: none.
func (m *Machine) split() *Split {
	a := m.try
	if a == nil || !a.stepping() || !m.active.alive() {
		return nil
	}
	step := a.canary.step
	if a.stage != StageCanary { // it is about to be
		step--
	}
	if step == 0 {
		return nil
	}
	return &Split{Rollout: a.id, Weight: a.steps()[step-1].Weight, Sticky: a.sticky()}
}

// shares: the worker's connections are divided between its generation and the candidate.
func (m *Machine) shares(w *worker) bool {
	return m.try != nil && m.try.stepping() && w.gen == m.active && w.phase == PhaseActive && w.gen.settings.Beats
}

// goesOn: what a master has left in the middle of its steps another one goes on with.
func (a *attempt) goesOn() bool {
	return a.stepping() && (a.stage == StageCanary || a.stage == StageSteer)
}
