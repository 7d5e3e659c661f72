package rollout

import (
	"fmt"
	"strconv"
	"time"
)

// bake is the proving of the active generation. The one before it is parked
// beside it, if there was one. It ends well when its time is over, or with a
// promote; it ends badly with the first death or with failing checks, when the
// parked one is fit to take over, and with a confirm that does not come.
type bake struct {
	made     *attempt
	gen      *generation
	deadline time.Time
	first    time.Time // the deadline as it was set; only push moves both

	confirm bool // ends well with a promote only

	fault    string // the first death that was not judged yet
	faulty   Worker
	broken   bool // somebody died and it stayed: the bake starts over at its end
	wentBack bool // surge replace: the version before was started again, or was tried to
	noted    bool // that failing checks have no better place to go

	closing  time.Time // when its time was up; it ends once every worker has passed a check since
	reported bool      // that it goes on beyond its time, and why
}

func (m *Machine) startBake(a *attempt) {
	m.bake = &bake{made: a, gen: a.gen, confirm: a.confirm > 0}
	switch {
	case a.confirm > 0:
		m.enter(a, StageConfirm, a.confirm, "waits for a promote, else it is rolled back")
	case a.settings.Bake > 0:
		m.enter(a, StageBake, a.settings.Bake, "")
	default:
		m.baked("")
		return
	}
	m.bake.deadline, m.bake.first = a.deadline, a.first
}

// bakeAgain proves a generation that got the traffic back before it was baked.
func (m *Machine) bakeAgain(g *generation) {
	m.bake = &bake{made: g.made, gen: g}
	m.bakeUntil(g.settings.Bake)
	if g.settings.Bake == 0 {
		m.baked("")
	}
}

// bakeOver: the time is up.
func (m *Machine) bakeOver() {
	b := m.bake
	switch {
	case m.moved(m.try):
		// Its successor takes its place right now, or gives it back and the
		// bake is looked at again.
		m.bakeUntil(m.settings.SteerTimeout)
	case b.confirm:
		m.confirmMissed(b)
	case b.broken:
		b.broken, b.noted, b.closing = false, false, time.Time{}
		m.bakeUntil(b.gen.settings.Bake)
		m.report(b.made, b.deadline, "a worker died during the bake, it starts over")
	default:
		m.closeBake(b)
	}
}

// closeBake asks every worker once more: a failure counts only after several
// checks, so the time alone proves nothing. judge ends the bake when all have
// passed; until then it goes on. Whoever waits for its end is answered when they have
// had the time for it: with nothing better to go back to it may go on for ever.
func (m *Machine) closeBake(b *bake) {
	again := !b.closing.IsZero()
	if !again {
		b.closing = m.now
		m.askAgain(b.gen)
	}
	m.bakeUntil(b.gen.settings.checkTime())
	w, why := m.unproven(b.gen, b.closing)
	if again && why != "" {
		m.answer(b.made, Failed, b.made.stage, w, b.gen.called()+" serves and does not count as baked: its time is over, and "+why+"; it bakes on until every worker passes a check")
	}
	if why != "" && why != unanswered && !b.reported {
		b.reported = true
		m.report(b.made, b.deadline, "its time is over and "+why+"; it goes on until every worker passes a check")
	}
}

// unanswered: nothing is wrong with a worker, its check just runs.
const unanswered = "a check is not answered yet"

// unproven tells why a generation's workers do not count as proven, and which of
// them: each must have the traffic, be heard of and have passed a check since the
// given time, with none failed after it. Empty: all do. Places that nobody has
// had yet do not count.
func (m *Machine) unproven(g *generation, since time.Time) (*worker, string) {
	waits := ""
	for _, s := range g.seats {
		w := s.worker
		switch {
		case w == nil && s.last == 0, w != nil && w.retired:
		case w == nil:
			return nil, "the replacement of worker " + strconv.FormatUint(uint64(s.last), 10) + " has not been started"
		case w.phase != PhaseActive:
			return w, w.called() + " does not serve yet"
		case w.silent:
			return w, w.called() + " is not heard of"
		case !g.settings.Probe:
		case w.failures > 0:
			return w, w.called() + " fails its health check (" + w.lastProbe + ")"
		case w.lastOK.Before(since):
			waits = unanswered
		}
	}
	return nil, waits
}

// askAgain checks every worker of a generation now. Those that fail are asked at
// their own pace: asking faster would count against them.
func (m *Machine) askAgain(g *generation) {
	for _, w := range g.workers {
		if w.phase == PhaseActive && g.settings.Probe && !w.probing && w.failures == 0 {
			m.probe(w)
		}
	}
}

// confirmMissed: nobody said that it is good.
func (m *Machine) confirmMissed(b *bake) {
	why := "nobody promoted it within " + b.made.confirm.String()
	if m.parked.alive() {
		m.takeBack(StageConfirm, 0, why)
		return
	}
	// Nothing warm is there to go back to. A kept version is started if there is
	// one; if there is none then what serves is better than nothing.
	to := m.newestKept(b.gen.version)
	if to == nil {
		b.confirm = false
		m.bakeUntil(max(b.gen.settings.Bake, b.made.confirm))
		m.report(b.made, b.deadline, why+", but there is nothing to go back to; it stays, and bakes like any other")
		return
	}
	m.bakeUntil(b.made.confirm)
	if m.try != nil || m.stop != nil {
		return // its successor is on the way, or the end
	}
	m.begin(&attempt{what: "rollback", by: "masterd", origin: Internal, why: why, settings: m.settings, version: to})
}

func (m *Machine) bakeUntil(d time.Duration) {
	m.bake.deadline = m.now.Add(d)
	m.bake.first = m.bake.deadline
}

// baked: the active generation is the one to trust from now on.
func (m *Machine) baked(by string) {
	b := m.bake
	m.bake = nil
	g := b.gen
	g.baked = true
	m.keep(g.version)
	m.reopen(g.version.Digest)
	m.state.Active = cloneVersion(&g.version)
	m.save() // not waited for
	if old := m.parked; old != nil {
		m.parked = nil
		m.dismiss(old)
	}
	a := b.made
	if a.stage != StageBaked {
		m.enter(a, StageBaked, 0, by)
		m.conclude(a, Done, StageBaked, nil, g.called()+" is baked")
	}
	m.retain()
}

// judge looks at the bake and takes the traffic back when it must. While
// traffic is being moved to a successor it waits for that to end.
func (m *Machine) judge() {
	b := m.bake
	if b == nil || m.moved(m.try) {
		return
	}
	// What a person has rolled back from comes back by itself only when nobody
	// else is alive.
	rejected := b.made.what == "rollback" && m.parked.alive() && m.active.alive()
	switch {
	case m.startBefore(b):
	case b.fault != "" && (rejected || !m.parked.alive()):
		b.fault, b.broken = "", true
	case b.fault != "" && (m.parkedFit(time.Time{}) || !m.active.alive()):
		m.takeBack(StageBake, b.faulty, b.fault)
	case b.fault != "":
		b.fault, b.broken = "", true
		m.report(b.made, b.deadline, "a worker died, but parked "+m.parked.called()+
			" fails its health check too, so it stays where it is")
	case m.parked.alive() && !m.active.alive():
		m.takeBack(StageBake, 0, "no worker of it is left")
	case m.parked.alive() && !rejected:
		m.judgeChecks(b)
	}
	if m.bake != b || b.closing.IsZero() || b.broken {
		return
	}
	if _, why := m.unproven(b.gen, b.closing); why == "" {
		m.baked("")
	}
}

// judgeChecks: failing checks count against the generation only if the parked
// one passes the same check at the same time. A dead database is nobody's fault.
func (m *Machine) judgeChecks(b *bake) {
	bad := b.gen.unhealthy()
	if bad == nil {
		b.noted = false
		return
	}
	if m.parked.passesWhere(bad) {
		m.takeBack(StageBake, bad.id, bad.called()+" "+bad.failed())
		return
	}
	if m.askFit(m.parked, bad.failing) || b.noted {
		return
	}
	b.noted = true
	m.report(b.made, b.deadline, bad.called()+" fails its health check ("+bad.lastProbe+
		"), but so does parked "+m.parked.called()+"; it stays where it is")
}

// unhealthy is a worker that fails its checks, nil: none does.
func (g *generation) unhealthy() *worker {
	for _, w := range g.workers {
		if w.phase == PhaseActive && w.failures >= g.settings.ActiveFailures {
			return w
		}
	}
	return nil
}

// failed says what an unhealthy worker did.
func (w *worker) failed() string {
	return fmt.Sprintf("failed %s in a row (%s)", number(w.failures, "health check"), w.lastProbe)
}

// parkedFit: the traffic can go back to the parked generation.
func (m *Machine) parkedFit(since time.Time) bool { return m.parked.fit(since) }

// fit: every worker that accepts passed its last check, and did so after a given
// time.
func (g *generation) fit(since time.Time) bool {
	fit := false
	for _, w := range g.workers {
		if !w.accepts() || w.leaving {
			continue
		}
		if w.failures > 0 || w.silent || w.gen.settings.Probe && w.lastOK.Before(since) {
			return false
		}
		fit = true
	}
	return fit
}

// passesWhere: it is fit, and passes a check that the worker fails. After an outage
// that both had seen one of them passes first: then the other is asked once more.
func (g *generation) passesWhere(bad *worker) bool {
	for _, w := range g.workers {
		if w.accepts() && !w.failedAt.Before(bad.failing) && bad.failedAt.Before(w.lastOK) {
			return false
		}
	}
	return g.fit(bad.failing)
}

// askFit probes at once those workers whose last good answer is too old to count
// for fit. It tells whether an answer is awaited.
func (m *Machine) askFit(g *generation, since time.Time) bool {
	waits := false
	for _, w := range g.workers {
		if !w.accepts() || w.leaving || !w.gen.settings.Probe || w.failures > 0 || !w.lastOK.Before(since) {
			continue
		}
		if !w.probing {
			m.probe(w)
		}
		waits = true
	}
	return waits
}

// takeBack gives the traffic back to the parked generation: first of all the
// steering, which waits for nothing, then everything else.
func (m *Machine) takeBack(stage Stage, w Worker, why string) {
	b, bad, good := m.bake, m.active, m.parked
	m.active, m.parked, m.bake = good, nil, nil
	m.become(good, PhaseActive, 0)
	good.traffic = true
	for _, x := range good.workers {
		if x.phase == PhaseParked {
			m.turn(x, PhaseActive, 0)
		}
	}
	m.dismiss(bad)
	m.resteer()
	for _, x := range good.workers {
		if x.phase == PhaseActive {
			m.emit(Activate{Worker: x.id})
		}
	}
	m.dropScale(nil)
	m.refill(good)
	m.close(bad.version, good.version)
	m.state.Active = cloneVersion(&good.version)
	m.save() // not waited for
	m.adopt(good)
	reason := bad.called() + " was rolled back to " + good.called() + ": " + why
	m.conclude(b.made, RolledBack, stage, m.workerOr(w, bad), reason)
	if !good.baked {
		m.bakeAgain(good)
	}
	if m.try != nil {
		m.try.from = good.id
	}
}

// workerOr is a worker to name in an answer, also when it is gone.
func (m *Machine) workerOr(id Worker, g *generation) *worker {
	if id == 0 {
		return nil
	}
	if w := m.workers[id]; w != nil {
		return w
	}
	return &worker{id: id, gen: g}
}
