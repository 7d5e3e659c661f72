package rollout

import "time"

// Target is where a rollback leads that names no version.
type Target struct {
	Generation Generation // that would have the traffic; zero: one that is yet to be started
	Version    Version    // zero: there is none
	Warm       bool       // a worker of it accepts: the traffic goes there at once
	Unmoved    bool       // it has all the traffic: only the rollout on its way is given up
	Due        time.Time  // when the traffic goes there by itself, for want of a promote; zero: it does not
	Refused    string     // why a rollback would be refused now; empty: it would not
}

// NothingKept is why a rollback that names no version would be refused where none was baked.
const NothingKept = "no other version is parked or kept"

// target is what rollbackAsked would do now. The simulation holds it to that.
func (m *Machine) target() Target {
	switch a := m.try; {
	case !m.booted || m.exited || m.stop != nil:
		return Target{Refused: "masterd is not in service"}
	case a != nil && a.what != "reload" && a.version != nil:
		return Target{Refused: a.called() + " to version " + a.version.called() + " is under way already"}
	case a != nil && m.active != nil:
		return Target{Generation: m.active.id, Version: m.active.version, Warm: m.active.alive(), Unmoved: !m.moved(a)}
	}
	var t Target
	if b := m.bake; b != nil && b.confirm {
		t.Due = b.deadline
	}
	if m.bake != nil && m.parked.alive() {
		t.Generation, t.Version, t.Warm = m.parked.id, m.parked.version, true
		if m.active.alive() && !m.parkedPasses() {
			t.Refused = "parked " + m.parked.called() + " fails its own health check"
		}
		return t
	}
	to := m.rollbackTarget(RollbackAsked{})
	if to == nil {
		return Target{Refused: NothingKept}
	}
	t.Version = *to
	return t
}

// tellTarget adds to the answers of this step where a rollback leads from now on.
func (m *Machine) tellTarget() {
	for i, c := range m.out {
		if r, ok := c.(Reply); ok && r.Code == Done {
			r.Target = m.target()
			m.out[i] = r
		}
	}
}
