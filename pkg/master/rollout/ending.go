package rollout

import (
	"fmt"
	"strings"
	"time"
)

// finish: the candidate has the traffic. It becomes the active generation, the
// one before it is parked or leaves.
func (m *Machine) finish(a *attempt) {
	g, old := a.gen, m.active
	m.try = nil
	m.become(g, PhaseActive, 0)
	m.active, m.served, a.switched = g, true, m.now
	unbaked := ""
	if b := m.bake; b != nil && a.what == "reload" && b.made.what == "reload" {
		unbaked = b.made.named() + " was not baked yet and was replaced by it"
	}
	m.enter(a, StageServing, 0, unbaked)
	if b := m.bake; b != nil && b.wentBack && a.what == "rollback" && a.origin == Internal {
		m.bake = nil
		m.conclude(b.made, RolledBack, StageBake, nil, old.called()+" was rolled back to version "+g.version.called()+", which "+
			g.called()+" runs: "+a.why+a.waitedFor("; "))
	} else if b != nil {
		m.bake = nil
		m.conclude(b.made, Superseded, b.made.stage, nil,
			old.called()+" was replaced by "+g.called()+" before it was baked, as "+who(a.by, a.origin)+" asked"+because(a.why))
	}
	if old != nil {
		m.noteReplaced(a, old)
		a.back = m.before(a, old)
		m.succeed(a, old)
	}
	m.adopt(g)
	if a.automatic() {
		m.automatic.ended = m.now
	}
	if a.until == UntilServing {
		m.answer(a, Done, StageServing, nil, joined(g.called()+" has the traffic", a.waitedFor(""), a.replaces, unbaked)+a.noted())
	}
	m.startBake(a)
}

// succeed decides what becomes of the generation that had the traffic. What was
// baked is parked; so is what was not, when there is nothing better to go back
// to. One that crashes in a loop is not.
func (m *Machine) succeed(a *attempt, old *generation) {
	if a.what == "rollback" || a.what == "loop" {
		m.close(old.version, a.gen.version)
	}
	if old.alive() && a.what != "loop" && (old.baked || !m.parked.alive()) {
		if m.parked != nil {
			m.losePark("a better one takes its place")
		}
		m.park(old)
		return
	}
	if until := m.clearUntil(old); !until.IsZero() {
		m.clear(old, until)
	}
	m.dismiss(old)
}

// adopt brings the generation's settings into force.
func (m *Machine) adopt(g *generation) { m.settings, m.token = g.settings, g.token }

// fail ends the running rollout before its candidate had all the traffic. What
// served serves on; where some traffic had moved it goes back first.
func (m *Machine) fail(stage Stage, w *worker, why string) {
	how := "did not come into service"
	if a := m.try; a.splits() && m.moved(a) {
		how = "was taken back at " + a.atStep()
	}
	m.giveBack(Failed, stage, w, "%s "+how+": "+blame(w, why), true)
}

// blame names the worker that a reason is about.
func blame(w *worker, why string) string {
	if w == nil {
		return why
	}
	name := fmt.Sprintf("worker %d", w.id)
	if rest, ok := strings.CutPrefix(why, "it "); ok {
		return name + " " + rest
	}
	if rest, ok := strings.CutPrefix(why, "its "); ok {
		return name + "'s " + rest
	}
	return name + ": " + why
}

// giveBack undoes the running rollout, for whatever reason.
func (m *Machine) giveBack(code Code, stage Stage, w *worker, format string, still bool) {
	a := m.try
	moved := m.moved(a) || m.makesWay()
	m.try = nil
	if g := a.gen; g != nil {
		m.dismiss(g)
	}
	if old := m.active; old != nil {
		old.traffic = true
		for _, w := range old.workers {
			if w.phase == PhaseActive && !w.retired {
				w.leaving = false
			}
		}
	}
	later := m.takeTurns(a)
	m.resteer()
	if m.active != nil && !later {
		m.refill(m.active)
	}
	m.state.Active = nil
	if m.active != nil {
		m.state.Active = cloneVersion(&m.active.version)
	}
	if moved && code == Failed {
		code = RolledBack
		if w != nil && m.active != nil {
			m.close(a.gen.version, m.active.version)
		}
	}
	if a.gen != nil {
		m.save() // not waited for
	}
	reason := m.fill(format, a)
	if later && moved && code == RolledBack {
		m.verdict = &verdict{a: a, code: code, stage: stage, why: reason}
		if w != nil {
			m.verdict.worker = w.id
		}
		m.report(a, m.now.Add(m.active.settings.StartTimeout), reason+"; "+m.active.called()+" is started again")
		return
	}
	if still {
		reason += m.stillServing()
	}
	m.conclude(a, code, stage, w, reason)
	m.tryAgainLater(a)
}

func (m *Machine) fill(format string, a *attempt) string {
	name := "the version of " + a.called()
	switch {
	case a.gen != nil:
		name = a.gen.called()
	case a.prepared != nil:
		name = "version " + a.prepared.Version.called()
	case a.version != nil:
		name = "version " + a.version.called()
	}
	if len(format) > 1 && format[:2] == "%s" {
		return name + format[2:]
	}
	return format
}

// conclude writes a rollout's end down and answers whoever still waits for it.
func (m *Machine) conclude(a *attempt, code Code, stage Stage, w *worker, why string) {
	e := Entry{
		Rollout: a.id, What: a.what, By: a.by, Origin: a.origin, Why: a.why, From: a.from,
		Code: code, Stage: stage, Began: a.began, Switched: a.switched, Waited: a.waited,
	}
	if a.gen != nil {
		e.To, e.Version = a.gen.id, a.gen.version
	} else if a.version != nil {
		e.Version = *a.version
	}
	if code != Done {
		why += a.noted()
		e.Reason = sentence(why)
	}
	m.answer(a, code, stage, w, why)
	m.record(e)
	m.noteFailure(a, e)
	switch code {
	case Done:
		m.emit(Hook{Name: "after", Rollout: a.id, Entry: e})
	case Failed, RolledBack:
		m.emit(Hook{Name: "failed", Rollout: a.id, Entry: e})
	}
	if a.automatic() && code != Done {
		m.automatic.ended = m.now
	}
	m.retain()
}

// noteFailure keeps the last failure in view until what it was about went well:
// a reload, or a start of what is configured. What somebody ended is none.
func (m *Machine) noteFailure(a *attempt, e Entry) {
	e.At = m.now
	switch {
	case (e.Code == Failed || e.Code == RolledBack) && !a.unwanted:
		m.lastFailed = &e
	case e.Code == Done && a.version == nil && m.lastFailed != nil && a.id > m.lastFailed.Rollout:
		m.lastFailed = nil
	}
}

// noteReplaced does the same for a generation that had the traffic and was given
// up by the machine itself: nobody's rollout ends with it.
func (m *Machine) noteReplaced(a *attempt, old *generation) {
	if a.what != "loop" && (a.what != "rollback" || a.origin != Internal) {
		return
	}
	made := old.made
	m.lastFailed = &Entry{
		At: m.now, Rollout: made.id, What: made.what, By: made.by, Origin: made.origin, Why: made.why, From: made.from, To: old.id,
		Began: made.began, Switched: made.switched,
		Version: old.version, Code: RolledBack, Stage: StageServing,
		Reason: sentence(strings.TrimSuffix(a.why, ".") + "; " + a.gen.called() + " took its place"),
	}
}

// answer replies to a rollout's caller, unless that has been done.
func (m *Machine) answer(a *attempt, code Code, stage Stage, w *worker, why string) {
	if a.req == 0 {
		return
	}
	r := Reply{Req: a.req, Rollout: a.id, Code: code, Stage: stage, Reason: sentence(why)}
	if a.gen != nil {
		r.Generation, r.Version = a.gen.id, a.gen.version
	} else if a.version != nil {
		r.Version = *a.version
	}
	if w != nil {
		r.Worker = w.id
	}
	a.req = 0
	m.reply(r)
}

// supersede ends the running rollout in favour of a newer request.
func (m *Machine) supersede(by string, o Origin, why, with string) {
	a := m.try
	m.giveBack(Superseded, a.stage, nil,
		"%s was given up at stage "+string(a.stage)+" for "+with+" that "+who(by, o)+" asked for"+because(why), false)
}

// boot is the way to the first generation. While nobody has ever served it
// does not end: what is configured and the last baked version take turns.
type boot struct {
	settings Settings
	tries    int
	wait     time.Duration
	due      time.Time
}

func (m *Machine) bootUp(ev Booted) {
	m.booted = true
	m.state = cloneState(ev.State)
	m.state.NextGeneration = max(m.state.NextGeneration, 1)
	m.state.Active = nil
	m.settings = ev.Settings.whole()
	m.state.Kept = m.state.Kept[:min(len(m.state.Kept), m.settings.KeepVersions)]
	m.boot.settings = m.settings
	m.nextWorker = ev.Workers
	if ev.Found != nil {
		m.resume(*ev.Found)
		return
	}
	m.startConfigured("")
}

func (m *Machine) startConfigured(why string) {
	m.begin(&attempt{what: "start", by: "masterd", origin: Internal, settings: m.boot.settings, why: why})
}

// tryAgainLater: after a failure with nobody ever serving, the fallback comes at
// once, everything after that with a growing wait.
func (m *Machine) tryAgainLater(a *attempt) {
	if m.active != nil || m.stop != nil {
		return
	}
	b := &m.boot
	b.tries++
	if b.tries == 1 && m.state.Baked != nil && a.version == nil {
		b.due = m.now
		return
	}
	b.wait = min(max(2*b.wait, m.settings.RestartInitial), m.settings.RestartMax)
	b.due = m.now.Add(m.jitter(b.wait))
}

// bootAgain alternates between what is configured and the fallback.
func (m *Machine) bootAgain() {
	b := &m.boot
	b.due = time.Time{}
	if m.active != nil || m.try != nil || m.stop != nil {
		return
	}
	if b.tries%2 == 1 && m.state.Baked != nil {
		m.begin(&attempt{
			what: "start", by: "masterd", origin: Internal, settings: b.settings,
			version: cloneVersion(m.state.Baked), why: "what is configured did not start",
		})
		return
	}
	m.startConfigured("nobody serves")
}
