package rollout

// queueFor: new connections may wait in a slot for a generation of which nobody lives.
// Whoever had it before is gone: else it would read what is not its own any more.
func (w *world) queueFor(c Queue) {
	for _, p := range w.bySlot[c.Slot] {
		if !p.gone {
			w.fail("clients are to wait in slot %d for generation %d, and worker %d of generation %d is there", c.Slot, c.Generation, p.id, p.gen)
		}
	}
	if w.holes[c.Slot] {
		w.fail("clients are to wait in slot %d, which is in quarantine", c.Slot)
	}
	w.owner[c.Slot], w.queued[c.Slot] = c.Generation, c.Generation
}

// keptWaiting: new connections go to where clients wait for the next generation, or are
// answered by the master meanwhile.
func (w *world) keptWaiting() bool {
	for s, g := range w.queued {
		if w.owner[s] == g && (w.maySteer(s) || len(w.steered) == 0) {
			return true
		}
	}
	return false
}

// of is a generation as the machine has it.
func (w *world) of(id Generation) *generation {
	for _, g := range w.m.generations {
		if g.id == id {
			return g
		}
	}
	return nil
}

// mustBeAlone: of a service whose versions lock each other out never two live at one time,
// but for a process that cannot be killed.
func (w *world) mustBeAlone(c Start) {
	g := w.of(c.Generation)
	if g == nil || !g.settings.SurgeReplace {
		return
	}
	for _, p := range w.live {
		other := w.of(p.gen)
		if p.gone || p.gen == c.Generation || other == nil || w.m.workers[p.id].stuck {
			continue
		}
		if w.m.candidate(g) || other.settings.SurgeReplace {
			w.fail("worker %d of generation %d is started while worker %d of generation %d lives", c.Worker, g.id, p.id, p.gen)
		}
	}
}

// mustMakeWay: what serves is ended for its successor only when all is well that can be
// known without a start, and when the next master will know of it.
func (w *world) mustMakeWay(p *proc) {
	g, a := w.of(p.gen), w.m.try
	if g == nil || !g.aside || a == nil || w.m.ending() {
		return
	}
	if !a.ends || !w.readied[a.id] {
		w.fail("worker %d makes way for rollout %d, which is not prepared", p.id, a.id)
	}
	if w.forward[a.id] && w.disk.NextGeneration <= a.gen.id {
		w.fail("worker %d makes way for generation %d, and the disk does not know of it", p.id, a.gen.id)
	}
}
