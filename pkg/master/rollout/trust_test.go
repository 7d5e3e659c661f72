package rollout

import "time"

// checkTrust: what is baked by its time alone passes its checks. Each worker of it
// serves, has passed one since the time was over, and has failed none after that.
func (w *world) checkTrust(ev Event, out []Command) {
	if _, promoted := ev.(PromoteAsked); promoted || w.set.Bake == 0 {
		return
	}
	for _, c := range out {
		r, ok := c.(Record)
		if !ok || r.Entry.Code != Done || r.Entry.Stage != StageBaked {
			continue
		}
		for _, p := range w.live {
			if x := w.m.workers[p.id]; p.gen != r.Entry.To || p.leaving || x == nil || x.retired {
				continue
			}
			var end time.Time
			if began, bakes := w.bakes[p.gen]; bakes {
				end = began.Add(w.set.Bake)
			}
			if !p.accepts || w.set.Probe && (p.failed || p.okAt.Before(end)) {
				w.fail("generation %d is baked: worker %d accepts %v, failed its last check %v, passed one at %v, and the bake was over at %v",
					p.gen, p.id, p.accepts, p.failed, p.okAt.Sub(epoch), end.Sub(epoch))
			}
		}
	}
}

// mustBeReady: where workers are replaced one at a time, the next is not started
// before those that came have served for MinReady and pass their checks. While nobody
// of the old ones serves there is no reason to wait.
func (w *world) mustBeReady(c Start) {
	if w.set.MinReady == 0 || c.Replaces != 0 || c.Generation == w.m.Status().Active {
		return
	}
	others, active := false, w.m.Status().Active
	for _, p := range w.live {
		others = others || p.gen == active && p.accepts && !p.leaving && !p.gone
	}
	if !others {
		return
	}
	for _, p := range w.live {
		if p.gen != c.Generation || p.id == c.Worker || !p.accepts || p.gone {
			continue
		}
		if served := w.now.Sub(p.since); served < w.set.MinReady {
			w.fail("worker %d is started when worker %d has served for %v only", c.Worker, p.id, served)
		}
		if w.set.Probe && (p.failed || p.okAt.Before(p.since.Add(w.set.MinReady))) {
			w.fail("worker %d is started while worker %d fails its checks: %v, passed at %v", c.Worker, p.id, p.failed, p.okAt.Sub(epoch))
		}
	}
}

// checkTold: that the serving version fails its checks is told once, until it is told
// that it passes them.
func (w *world) checkTold(out []Command) {
	for _, c := range out {
		r, ok := c.(Record)
		if !ok || r.Entry.What != "unhealthy" && r.Entry.What != "healthy" {
			continue
		}
		g, bad := r.Entry.To, r.Entry.What == "unhealthy"
		if was, told := w.unwell[g]; told && was == bad {
			w.fail("generation %d is told to be %s twice", g, r.Entry.What)
		}
		w.unwell[g] = bad
		if x := w.m.workers[r.Entry.Worker]; bad && (x == nil || x.phase != PhaseActive && !w.m.ending() || x.gen.id != g) {
			w.fail("generation %d fails its checks, and worker %d is none of it", g, r.Entry.Worker)
		}
		for _, p := range w.live {
			if x := w.m.workers[p.id]; !bad && p.gen == g && p.failed && x != nil && x.phase == PhaseActive {
				w.fail("generation %d passes its checks, and worker %d fails them", g, p.id)
			}
		}
	}
}

// leads: where the machine has said that a rollback leads, there it leads, and every
// answer says where the next one would.
func (w *world) leads(ev Event) func([]Command) {
	said, before := w.m.Status().Target, w.m.try
	return func(out []Command) {
		for _, c := range out {
			if r, ok := c.(Reply); ok && r.Code == Done && r.Target != w.m.Status().Target {
				w.fail("an answer says that a rollback leads to %+v, and it leads to %+v", r.Target, w.m.Status().Target)
			}
		}
		ask, ok := ev.(RollbackAsked)
		if !ok {
			return
		}
		var answer Reply
		for _, c := range out {
			if r, ok := c.(Reply); ok && r.Req == ask.Req {
				answer = r
			}
		}
		refused := answer.Code != 0 && answer.Code != Done
		try := w.m.try
		if !refused && (w.m.automatic.delayed != nil || try != nil && try != before && try.what == "reload") {
			w.fail("a rollback does not end a reload that was held back")
		}
		if ask.Version != "" {
			return
		}
		switch {
		case refused != (said.Refused != ""):
			w.fail("a rollback was said to lead to %+v, and is answered %+v", said, answer)
		case refused:
		case said.Generation != 0:
			if w.m.active == nil || w.m.active.id != said.Generation || try != nil {
				w.fail("a rollback was said to lead to generation %d, and does not", said.Generation)
			}
		case try == nil || try.what != "rollback" || *try.version != said.Version:
			w.fail("a rollback was said to start version %s, and does not", said.Version.ID)
		}
	}
}
