package rollout

import "slices"

// rollbackAsked goes back in one step, whatever is going on: a candidate that
// has not had the traffic is given up, traffic that has moved returns to the
// parked generation, and only when nothing warm is there a kept version is
// started anew. An automatic reload that is held back ends with it, or it would begin now
// and go forward again; a change that comes later is another one.
func (m *Machine) rollbackAsked(ev RollbackAsked) {
	try, bake := m.try, m.bake
	m.goBack(ev)
	if m.try != try || m.bake != bake { // it was not refused
		m.endDelayed(Superseded, "it was held back, and "+who(ev.By, ev.Origin)+" asked for a rollback meanwhile"+because(ev.Why))
	}
}

func (m *Machine) goBack(ev RollbackAsked) {
	by := who(ev.By, ev.Origin)
	if ev.Version != "" && ev.To == nil {
		m.refuse(ev.Req, Invalid, "version "+ev.Version+" is not kept; `masterd versions` lists what a rollback can go to")
		return
	}
	if a := m.try; a != nil {
		if m.cancelFor(ev, a, by) {
			return
		}
	}
	if b := m.bake; b != nil && m.parked.alive() && (ev.To == nil || ev.To.ID == m.parked.version.ID) {
		if m.active.alive() && !m.parkedPasses() {
			m.refuse(ev.Req, Failed, "parked "+m.parked.called()+" fails its own health check now, so the traffic stays with "+
				m.active.called()+"; `masterd rollback VERSION` starts a kept version instead")
			return
		}
		bad := m.active
		b.made.unwanted = true
		m.takeBack(b.made.stage, 0, by+" asked for it"+because(ev.Why))
		m.record(Entry{What: "rollback", By: ev.By, Origin: ev.Origin, Why: ev.Why, From: bad.id, To: m.active.id,
			Version: m.active.version, Code: Done})
		m.afterSteer(Reply{Req: ev.Req, Rollout: b.made.id, Generation: m.active.id, Version: m.active.version, Code: Done,
			Reason: sentence(m.active.called() + " has the traffic again, " + bad.called() + " drains")})
		return
	}
	m.rollbackToKept(ev)
}

// cancelFor gives up the running rollout for a rollback. It tells whether the
// request is answered by that.
func (m *Machine) cancelFor(ev RollbackAsked, a *attempt, by string) bool {
	target := m.rollbackTarget(ev)
	if a.what != "reload" && a.version != nil {
		if target == nil || ev.To == nil || target.ID == a.version.ID {
			m.refuse(ev.Req, Superseded, a.called()+" of "+who(a.by, a.origin)+" to version "+a.version.called()+
				" is under way already (stage "+string(a.stage)+"); `masterd abort` ends it")
			return true
		}
	}
	if m.active == nil {
		if target == nil {
			m.refuse(ev.Req, Invalid, "nothing serves yet and no version is kept to go back to; the start goes on"+m.unbaked(ev))
			return true
		}
		m.supersede(ev.By, ev.Origin, ev.Why, "a rollback")
		return false
	}
	moved := m.moved(a) || m.makesWay()
	a.unwanted = true
	code := Superseded
	if moved {
		code = RolledBack
	}
	m.giveBack(code, a.stage, nil, "%s was taken back at stage "+string(a.stage)+" by a rollback that "+by+" asked for"+because(ev.Why), false)
	if ev.To != nil && ev.To.ID != m.active.version.ID {
		return false
	}
	m.note("rollback", ev.By, ev.Why)
	reason := m.active.called() + " keeps the traffic; it had never moved"
	if m.returns() {
		reason = m.active.called() + " is started again"
	} else if moved {
		reason = m.active.called() + " has all the traffic again"
	}
	if m.bake != nil && m.parked.alive() {
		reason += "; it is not baked yet, and another `masterd rollback` goes back to " + m.parked.called()
	}
	m.afterSteer(Reply{Req: ev.Req, Rollout: a.id, Generation: m.active.id, Version: m.active.version, Code: Done, Reason: sentence(reason)})
	return true
}

// parkedPasses: no parked worker is known to fail its check.
func (m *Machine) parkedPasses() bool {
	for _, w := range m.parked.workers {
		if w.phase == PhaseParked && w.failures > 0 {
			return false
		}
	}
	return true
}

// rollbackTarget is the kept version that a rollback would start, nil: none.
func (m *Machine) rollbackTarget(ev RollbackAsked) *Version {
	switch {
	case ev.To != nil:
		return cloneVersion(ev.To)
	case m.bake != nil && m.bake.made.back != nil:
		return cloneVersion(m.bake.made.back)
	case m.active != nil:
		return m.newestKept(m.active.version)
	}
	return m.newestKept(Version{})
}

// unbaked names what could be gone to and is not by itself; empty: there is nothing.
func (m *Machine) unbaked(ev RollbackAsked) string {
	var runs []string
	if m.active != nil {
		runs = append(runs, m.active.version.ID)
	}
	if m.try != nil && m.try.prepared != nil {
		runs = append(runs, m.try.prepared.Version.ID)
	}
	return Unbaked(ev.Stored, m.state.Closed, runs...)
}

// Unbaked names, where nothing is kept, the first version that a rollback would not go to by
// itself, and how to have it go there; empty: there is none but those that run. closed are the
// digests that are closed to automation.
func Unbaked(stored []Version, closed []string, runs ...string) string {
	for _, v := range stored {
		if slices.Contains(runs, v.ID) {
			continue
		}
		say := " is there and was never baked: `masterd rollback "
		if slices.Contains(closed, v.Digest) {
			say = " is there and was never baked, and was rolled back before: `masterd rollback "
		}
		return "; version " + v.called() + say + v.ID + "` starts it"
	}
	return ""
}

func (m *Machine) rollbackToKept(ev RollbackAsked) {
	to := m.rollbackTarget(ev)
	switch {
	case to == nil:
		m.refuse(ev.Req, Invalid, "there is no other version to go back to: none is parked and none that differs from the active one is kept"+m.unbaked(ev))
		return
	case m.active != nil && to.ID == m.active.version.ID:
		m.refuse(ev.Req, Invalid, "version "+to.called()+" is what "+m.active.called()+" runs already")
		return
	}
	m.begin(&attempt{
		what: "rollback", by: ev.By, origin: ev.Origin, why: ev.Why, settings: m.settings, version: to, req: ev.Req,
	})
}

// abortAsked ends the running rollout.
func (m *Machine) abortAsked(ev AbortAsked) {
	by := who(ev.By, Person)
	if a := m.try; a != nil {
		moved := m.moved(a) || m.makesWay()
		a.unwanted = true
		code := Failed
		if moved {
			code = RolledBack
		}
		m.giveBack(code, a.stage, nil, "%s was aborted at stage "+string(a.stage)+" by "+by+because(ev.Why), true)
		m.note("abort", ev.By, ev.Why)
		reply := Reply{Req: ev.Req, Rollout: a.id, Code: Done, Reason: sentence(a.called() + " was aborted" + m.stillServing())}
		if moved {
			m.afterSteer(reply)
		} else {
			m.reply(reply)
		}
		return
	}
	b := m.bake
	switch {
	case b == nil && m.automatic.delayed != nil:
		m.endDelayed(Failed, "it was held back, and was aborted by "+by+because(ev.Why))
		m.note("abort", ev.By, ev.Why)
		m.reply(Reply{Req: ev.Req, Code: Done, Reason: sentence("the automatic reload that waited was aborted" + m.stillServing())})
	case b == nil:
		m.refuse(ev.Req, Invalid, "no rollout is running, there is nothing to abort")
	case !m.parked.alive():
		m.refuse(ev.Req, Invalid, b.gen.called()+" has the traffic and no generation is parked to give it back to; `masterd rollback` starts a kept version")
	default:
		b.made.unwanted = true
		m.takeBack(b.made.stage, 0, "it was aborted by "+by+because(ev.Why))
		m.note("abort", ev.By, ev.Why)
		m.afterSteer(Reply{Req: ev.Req, Rollout: b.made.id, Generation: m.active.id, Version: m.active.version, Code: Done,
			Reason: sentence(b.made.called() + " was aborted, " + m.active.called() + " has the traffic again")})
	}
}

// promoteAsked takes a canary's next step, or ends a bake or a confirm now, as passed.
func (m *Machine) promoteAsked(ev PromoteAsked) {
	if a := m.try; a != nil && a.splits() {
		m.promoteStep(a, ev)
		return
	}
	b := m.bake
	switch {
	case b == nil:
		m.refuse(ev.Req, Invalid, "nothing is baking or waits to be promoted")
		return
	case m.moved(m.try):
		m.refuse(ev.Req, Superseded, "the traffic is just being moved away from "+b.gen.called()+" by "+m.try.called())
		return
	}
	m.note("promote", ev.By, ev.Why)
	m.baked("promoted by " + who(ev.By, Person) + because(ev.Why))
	m.done(ev.Req, b.gen.called()+" is promoted and counts as baked")
}
