package rollout

import "slices"

// What the simulation demands of who gives connections to whom. It goes by what
// the workers were told and by the Steers that were answered; only whether one
// is silent, or about to leave, it asks the machine.

// give: the worker is told to.
func (w *world) give(c Give) {
	p := w.procs[c.Worker]
	if p.gone {
		w.fail("worker %d is gone and is told to give", p.id)
	}
	if slices.Equal(p.gives, c.To) && sameSplit(p.split, c.Split) {
		w.fail("worker %d is told to give to %v, and does", p.id, c.To)
	}
	if c.Split != nil && p.giver {
		w.fail("worker %d is parked or drains, and is told to give no more than %+v", p.id, c.Split)
	}
	homes := w.homes(true)
	for i, id := range c.To {
		switch {
		case id == c.Worker:
			w.fail("worker %d is told to give to itself", id)
		case slices.Contains(c.To[:i], id):
			w.fail("worker %d is told twice to give to worker %d", p.id, id)
		case !slices.Contains(homes, id):
			w.fail("worker %d is told to give to worker %d, which does not have the traffic; %v have", p.id, id, homes)
		}
	}
	p.gives, p.split = c.To, c.Split
}

// mustGive: it is told to park or to drain, and was told before where to go.
func (w *world) mustGive(p *proc) {
	p.giver = true
	if homes := w.homes(false); w.set.Beats && (len(p.gives) == 0 || p.split != nil) && len(homes) > 0 {
		w.fail("worker %d is told to park or to drain, and not before that to give to %v", p.id, homes)
	}
}

// inspectGiving: after every step everybody who is parked or drains gives to
// those that have the traffic, and nobody else gives.
func (w *world) inspectGiving() {
	if w.exited {
		return
	}
	homes := w.homes(false)
	for _, p := range w.live {
		if p.giver {
			w.checkGiver(p, homes)
		} else if len(p.gives) > 0 && p.split == nil && !p.leaving {
			w.fail("worker %d is neither parked nor drains, and gives to %v", p.id, p.gives)
		}
	}
}

func (w *world) checkGiver(p *proc, homes []Worker) {
	want := min(len(homes), maxHomes)
	if !w.set.Beats {
		want = 0
	}
	if len(p.gives) != want {
		w.fail("worker %d gives to %v, that should be %d of %v", p.id, p.gives, want, homes)
	}
	for _, id := range p.gives {
		if !slices.Contains(homes, id) {
			w.fail("worker %d gives to worker %d, and only %v have the traffic", p.id, id, homes)
		}
	}
}

// homes are the workers that can be given to. Within a step also those that are
// falling silent, or given up, or drain with all, later in that step.
func (w *world) homes(within bool) (homes []Worker) {
	if !w.set.Handover || !within && w.stopping && w.m.Status().Drains.IsZero() {
		return nil
	}
	newest, canary := Generation(0), Generation(0)
	if !within && w.m.try != nil && w.m.try.splits() && w.m.active.alive() { // who has but its share
		canary = w.m.try.gen.id
	}
	for _, p := range w.live {
		if canary != 0 && p.gen == canary {
			continue
		}
		x := w.m.workers[p.id]
		if p.gone || !p.accepts || p.leaving || p.giver || !inShares(w.known, p.slot) || !within && (x == nil || x.silent || x.leaving) {
			continue
		}
		if !within && p.gen > newest {
			newest, homes = p.gen, nil
		}
		if within || p.gen == newest {
			homes = append(homes, p.id)
		}
	}
	return homes
}

// checkClosing: the connections of nobody are being closed to whom new ones go.
func (w *world) checkClosing() {
	for _, s := range w.steered {
		for _, p := range w.bySlot[s.Slot] {
			if p.closes && p.alive && !p.leaving && w.m.phaseOf(p.id) == PhaseActive {
				w.fail("worker %d has the traffic, and its connections are being closed", p.id)
			}
		}
	}
}

// phaseOf is a worker's phase; empty: it is gone.
func (m *Machine) phaseOf(id Worker) Phase {
	if w := m.workers[id]; w != nil {
		return w.phase
	}
	return ""
}
