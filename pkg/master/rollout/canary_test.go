package rollout

import (
	"testing"
	"time"
)

// What the simulation demands of a canary. It goes by the Steers, by those that were
// answered and by what was asked for; whether a rollout has steps it asks the machine.

// walk is how far a candidate has come.
type walk struct {
	step    int       // the last one that was steered to
	heard   int       // the last one that was heard to be in force
	since   time.Time // when it was
	allowed int       // a person has asked for the steps up to this one
	paused  bool
}

func (w *world) walkOf(g Generation) *walk {
	if w.walks[g] == nil {
		w.walks[g] = &walk{}
	}
	return w.walks[g]
}

// canaryIn is the candidate that has a share, and its weight; zero: none has.
func (w *world) canaryIn(shares []Share) (of Generation, weight uint64) {
	var sum, all uint64
	for _, s := range shares {
		all += uint64(s.Weight)
		if s.Canary {
			sum += uint64(s.Weight)
			of = w.owner[s.Slot]
		}
	}
	if of == 0 {
		return 0, 0
	}
	if sum*Whole%all != 0 {
		w.fail("generation %d has %d of %d parts", of, sum, all)
	}
	return of, sum * Whole / all
}

// asksForStep notes what a person allows.
func (w *world) asksForStep(ev Event) {
	a := w.m.try
	if p, ok := ev.(PromoteAsked); ok && a != nil && a.splits() {
		at := w.walkOf(a.gen.id)
		at.allowed = a.canary.step + 1
		if p.All {
			at.allowed = len(a.steps()) + 1
		}
	}
}

// hasAsked is the answer to a pause or a resume.
func (w *world) hasAsked(what string, c Reply) {
	if a := w.m.try; c.Code == Done && a != nil && a.gen != nil && (what == "pause" || what == "resume") {
		w.walkOf(a.gen.id).paused = what == "pause"
	}
}

// mustStep: a candidate gets no more than the step that it is at; the next one is its only
// after its time, with a passed check of each worker since, or if a person asks for it.
func (w *world) mustStep(c Steer) {
	of, weight := w.canaryIn(c.Shares)
	a := w.m.try
	if of == 0 {
		all := len(c.Shares) > 0
		for _, s := range c.Shares {
			all = all && a != nil && a.gen != nil && w.owner[s.Slot] == a.gen.id
		}
		switch {
		case !all || len(a.steps()) == 0:
		case w.sharesWith(a.gen.id):
			w.mayStep(a.gen.id, len(a.steps())+1, a.steps())
		case a.splits(): // it has all for as long as it is alone
			w.mayStep(a.gen.id, a.canary.step, a.steps())
		}
		return
	}
	step := 0
	for i, s := range w.set.Steps {
		if uint64(s.Weight) == weight {
			step = i + 1
		}
	}
	switch {
	case step == 0:
		w.fail("generation %d gets %d of %d parts, which is no step", of, weight, Whole)
	case !w.forward[w.made[of]]:
		w.fail("generation %d is a way back, and goes by steps", of)
	case c.Sticky != 0 != w.set.Sticky:
		w.fail("clients are chosen with %d", c.Sticky)
	}
	for _, s := range c.Shares {
		if s.Canary != (w.owner[s.Slot] == of) {
			w.fail("slot %d of generation %d has a share of generation %d", s.Slot, w.owner[s.Slot], of)
		}
	}
	w.mayStep(of, step, w.set.Steps)
}

// sharesWith: somebody of the generation before could have the rest of the traffic.
func (w *world) sharesWith(candidate Generation) bool {
	for _, p := range w.live {
		x := w.m.workers[p.id]
		if p.gen != candidate && x != nil && x.gen == w.m.active && x.phase == PhaseActive && !x.leaving && !x.silent {
			return true
		}
	}
	return false
}

func (w *world) mayStep(of Generation, step int, steps []Step) {
	at := w.walkOf(of)
	switch {
	case step <= at.step:
		return // again, or fewer than before while a steering fails
	case step <= at.allowed || at.step == 0 && step == 1:
		at.step = step
		return
	case step > at.step+1:
		w.fail("generation %d goes from step %d to %d", of, at.step, step)
	}
	hold := steps[at.step-1].Hold
	if served := w.now.Sub(at.since); hold == 0 || at.paused || at.since.IsZero() || served < hold {
		w.fail("generation %d goes on to step %d after %v of %v, paused %v", of, step, served, hold, at.paused)
	}
	for _, p := range w.live {
		if p.gen == of && p.accepts && w.set.Probe && (p.failed || p.okAt.Before(at.since.Add(hold))) {
			w.fail("generation %d goes on to step %d: worker %d failed its last check %v, passed one at %v", of, step, p.id, p.failed, p.okAt.Sub(epoch))
		}
	}
	if step > len(steps) {
		w.mustAwait(of, w.now.Sub(at.since)-hold)
	}
	at.step = step
}

// stepHeard: a steering is known to be in force. While nobody else is alive the candidate
// has more than its share.
func (w *world) stepHeard() {
	a := w.m.try
	if a == nil || a.gen == nil || !a.splits() {
		return
	}
	if at := w.walkOf(a.gen.id); at.heard != a.canary.step {
		at.heard, at.since = a.canary.step, w.now
	}
}

// inspectSplit: while a step is in force each worker of the generation before gives its
// share, and who does so is one of those.
func (w *world) inspectSplit() {
	of, weight := w.canaryIn(w.known)
	var able []Worker
	for _, p := range w.live {
		if x := w.m.workers[p.id]; of != 0 && p.gen == of && p.accepts && !p.leaving && x != nil && !x.silent && !x.leaving && inShares(w.known, p.slot) {
			able = append(able, p.id)
		}
	}
	r := w.m.Status().Rollout
	steps := r != nil && r.Stage == StageCanary && r.Generation == of
	for _, p := range w.live {
		x := w.m.workers[p.id]
		if x == nil || x.gen != w.m.active || x.phase != PhaseActive || !w.set.Beats {
			continue
		}
		if steps && w.set.Handover && len(able) > 0 && (p.split == nil || uint64(p.split.Weight) != weight || len(p.gives) == 0) {
			w.fail("worker %d gives %+v to %v while generation %d has %d parts", p.id, p.split, p.gives, of, weight)
		}
		if len(p.gives) > 0 && (p.split == nil || r == nil || r.ID != p.split.Rollout) {
			w.fail("worker %d is active and gives %+v to %v", p.id, p.split, p.gives)
		}
	}
}

// steps are those of a world.
func (w *world) someSteps() (all []Step) {
	holds := []time.Duration{0, time.Second, 5 * time.Second, time.Minute}
	for weight := uint32(1 + w.r.IntN(1000)); weight < Whole && len(all) < 4; weight *= uint32(2 + w.r.IntN(20)) {
		all = append(all, Step{Weight: weight, Hold: holds[w.r.IntN(len(holds))]})
	}
	return all
}

// goOnWithSteps: a person is there again.
func (w *world) goOnWithSteps() {
	if a := w.m.try; a != nil && a.waitsForPerson() {
		w.step(ResumeAsked{By: "sim"})
		w.step(PromoteAsked{By: "sim", All: true})
	}
}

func TestPercent(t *testing.T) {
	for weight, want := range map[uint32]string{1: "0.01%", 50: "0.5%", 100: "1%", 1250: "12.5%", 1234: "12.34%", 9999: "99.99%", 1005: "10.05%"} {
		if got := percent(weight); got != want {
			t.Errorf("%d: %q, not %q", weight, got, want)
		}
	}
}
