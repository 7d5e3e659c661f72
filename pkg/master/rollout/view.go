package rollout

import (
	"slices"
	"time"
)

// Status is a copy of all that the machine knows.
func (m *Machine) Status() Status {
	s := Status{
		Serving: m.serving() && m.steering.known, Stopping: m.stop != nil,
		Hold: m.state.Hold, HoldBy: m.state.HoldBy,
		Baked: cloneVersion(m.state.Baked), Kept: slices.Clone(m.state.Kept), Closed: slices.Clone(m.state.Closed),
		Last: cloneEntry(m.last), LastFailure: cloneEntry(m.lastFailed), LastCut: cloneEntry(m.lastCut),
	}
	if m.stop != nil {
		s.Drains = m.stop.drainDue
	}
	if m.active != nil {
		s.Active = m.active.id
	}
	if m.parked != nil {
		s.Parked = m.parked.id
	}
	for _, g := range m.generations {
		s.Generations = append(s.Generations, m.viewGeneration(g))
	}
	s.Rollout, s.Target, s.Waits = m.viewRollout(), m.target(), m.viewWaiting()
	for i, x := range m.slots {
		v := SlotStatus{Slot: Slot(i), State: x.state.String(), Generation: x.generation}
		for _, share := range m.steering.have {
			if share.Slot == v.Slot {
				v.Weight = share.Weight
			}
		}
		s.Slots = append(s.Slots, v)
	}
	return s
}

func cloneEntry(e *Entry) *Entry {
	if e == nil {
		return nil
	}
	c := *e
	return &c
}

func (m *Machine) viewGeneration(g *generation) GenerationStatus {
	v := GenerationStatus{
		ID: g.id, Version: g.version, Phase: g.phase, Since: g.since, Deadline: g.deadline, Baked: g.baked,
		Exits: slices.Clone(g.exits), Window: g.settings.LoopWindow, Ended: g.ended,
	}
	restarts := map[Worker]int{}
	for _, s := range g.seats {
		if s.worker != nil {
			restarts[s.worker.id] = s.restarts
		}
	}
	for _, w := range g.workers {
		v.Workers = append(v.Workers, WorkerStatus{
			ID: w.id, PID: w.pid, Slot: w.slot, Phase: w.phase, Since: w.since, Deadline: w.deadline,
			Healthy:  !w.silent && (w.failures == 0 || w.accepts() && w.failures < g.settings.ActiveFailures),
			Failures: w.failures, LastProbe: w.lastProbe, Gives: slices.Clone(w.giving), Restarts: restarts[w.id],
		})
	}
	for _, s := range g.seats {
		if s.worker == nil && !s.due.IsZero() {
			v.Workers = append(v.Workers, WorkerStatus{
				ID: s.last, Slot: s.slot, Phase: PhaseBackoff, Since: s.left, Deadline: s.due, Restarts: s.restarts,
			})
		}
	}
	return v
}

func (m *Machine) viewRollout() *RolloutStatus {
	a, deadline := m.try, time.Time{}
	switch {
	case a != nil:
		deadline = a.deadline
		if deadline.IsZero() {
			deadline = a.goneBy
		}
	case m.bake != nil:
		a, deadline = m.bake.made, m.bake.deadline
	default:
		return nil
	}
	v := &RolloutStatus{
		ID: a.id, What: a.what, By: a.by, Origin: a.origin, Why: a.why, Stage: a.stage, Since: a.since, Deadline: deadline,
	}
	switch {
	case a.gen != nil:
		v.Generation, v.Version = a.gen.id, a.gen.version
	case a.version != nil:
		v.Version = *a.version
	}
	if a == m.try {
		v.Steps, v.Step, v.Paused = slices.Clone(a.steps()), min(a.canary.step, len(a.steps())), a.canary.paused
		v.Awaits = a.awaited()
	}
	return v
}

func (m *Machine) viewWaiting() *Delayed {
	a := &m.automatic
	if a.delayed == nil {
		return nil
	}
	w := &Delayed{By: who(a.delayed.By, a.delayed.Origin)}
	switch {
	case m.mayStartAutomatic():
		w.Until, w.Why = a.allowed(m.now, m.settings)
	case m.try != nil:
		w.Why = m.try.named() + " is under way"
	default:
		w.Why = m.bake.made.named() + " is not baked yet"
	}
	return w
}
