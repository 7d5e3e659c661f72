package rollout

import (
	"fmt"
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

	fault  string // the first death that was not judged yet
	faulty Worker
	broken bool // somebody died and it stayed: the bake starts over at its end
	told   bool // that failing checks have no better place to go
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
		b.broken, b.told = false, false
		m.bakeUntil(b.gen.settings.Bake)
		m.report(b.made, b.deadline, "a worker died during the bake, it starts over")
	default:
		m.baked("")
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
}

// judgeChecks: failing checks count against the generation only if the parked
// one passes the same check at the same time. A dead database is nobody's fault.
func (m *Machine) judgeChecks(b *bake) {
	var bad *worker
	for _, w := range b.gen.workers {
		if w.phase == PhaseActive && w.failures >= b.gen.settings.ActiveFailures {
			bad = w
			break
		}
	}
	if bad == nil {
		b.told = false
		return
	}
	if m.parkedFit(bad.failing) {
		m.takeBack(StageBake, bad.id, fmt.Sprintf("%s failed %s in a row (%s)",
			bad.called(), number(bad.failures, "health check"), bad.lastProbe))
		return
	}
	if m.askParked(bad.failing) || b.told {
		return
	}
	b.told = true
	m.report(b.made, b.deadline, bad.called()+" fails its health check ("+bad.lastProbe+
		"), but so does parked "+m.parked.called()+"; it stays where it is")
}

// parkedFit: every parked worker that lives passed its last check, and did so
// after a given time.
func (m *Machine) parkedFit(since time.Time) bool {
	fit := false
	for _, w := range m.parked.workers {
		if w.phase != PhaseParked {
			continue
		}
		if w.failures > 0 || w.silent || w.gen.settings.Probe && w.lastOK.Before(since) {
			return false
		}
		fit = true
	}
	return fit
}

// askParked probes at once those parked workers whose last good answer is too
// old to count. It tells whether an answer is awaited.
func (m *Machine) askParked(since time.Time) bool {
	waits := false
	for _, w := range m.parked.workers {
		if w.phase != PhaseParked || w.failures > 0 || !w.lastOK.Before(since) {
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
	m.adopt(nil, good)
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
