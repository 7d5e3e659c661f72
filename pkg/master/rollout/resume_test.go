package rollout

import "time"

// What the simulation demands of a machine that goes on from what another one
// has left.

// mustLeaveAlone: nothing that serves is touched, and nobody is replaced who lives.
func (w *world) mustLeaveAlone(snap Snapshot, f *Found, out []Command) {
	serves := map[Worker]bool{}
	room := map[Generation]int{}
	for _, g := range snap.Generations {
		room[g.ID] = len(g.Seats)
		for _, x := range g.Workers {
			_, lives := f.Alive[x.ID]
			serves[x.ID] = lives && g.ID == snap.Active && snap.Try == nil && x.Phase == PhaseActive && !x.Leaving
		}
		for _, s := range g.Seats {
			if _, lives := f.Alive[s.Worker]; lives {
				room[g.ID]--
			}
		}
	}
	steered := false
	for _, c := range out {
		switch c := c.(type) {
		case Steer:
			steered = true
		case Drain:
			if serves[c.Worker] && snap.Stop == nil {
				w.fail("worker %d serves, and is drained by the next master", c.Worker)
			}
		case Terminate:
			if serves[c.Worker] && snap.Stop == nil {
				w.fail("worker %d serves, and is stopped by the next master", c.Worker)
			}
		case Kill:
			if serves[c.Worker] && snap.Stop == nil {
				w.fail("worker %d serves, and is killed by the next master", c.Worker)
			}
		case Start:
			if room[c.Generation]--; room[c.Generation] < 0 {
				w.fail("worker %d is started on the seat of one that lives", c.Worker)
			}
		}
	}
	if !steered && !w.m.ending() && w.m.somebody {
		w.fail("the next master does not make the steering what it should be")
	}
}

// mustKeepTime: a bake has the time that it had left, and so has a drain.
func (w *world) mustKeepTime(snap Snapshot) {
	away := w.now.Sub(snap.At)
	same := func(was, is time.Time) bool {
		d := is.Sub(was.Add(away))
		return d < time.Millisecond && d > -time.Millisecond
	}
	if b := w.m.bake; b != nil && snap.Bake != nil && b.gen.id == snap.Active && snap.Try == nil {
		if !same(snap.Bake.Deadline, b.deadline) && snap.Bake.Deadline.After(snap.At) && !b.broken {
			w.fail("the bake had until %v, and has until %v", snap.Bake.Deadline.Add(away), b.deadline)
		}
	}
	for _, g := range snap.Generations {
		for _, x := range g.Workers {
			is := w.m.workers[x.ID]
			if is == nil || x.Phase != PhaseDraining || is.phase != PhaseDraining {
				continue
			}
			if x.Deadline.IsZero() != is.deadline.IsZero() || !x.Deadline.IsZero() && !same(x.Deadline, is.deadline) {
				w.fail("worker %d drains until %v, that was %v", x.ID, is.deadline, x.Deadline)
			}
		}
	}
}
