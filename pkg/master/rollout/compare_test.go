package rollout

import (
	"slices"
	"strings"
	"time"
)

// compare: what is compared is what new connections are really drawn by, between all workers
// that they can come to.
func (w *world) compare(c Compare) {
	w.compared = c
	if c.Weight == 0 {
		return
	}
	of, weight := w.canaryIn(w.steered)
	if weight != uint64(c.Weight) || w.made[of] != c.Rollout || w.set.Sticky || !w.set.Beats {
		w.fail("%+v is compared, and generation %d has %d parts", c, of, weight)
	}
	if n := len(w.asks); n > 0 && w.asks[n-1].seq > w.heard {
		w.fail("%+v is compared, and steering %d has no answer", c, w.asks[n-1].seq)
	}
	for _, p := range w.live {
		side := c.Stable
		if p.gen == of {
			side = c.Candidate
		}
		takes := p.accepts && inShares(w.steered, p.slot) && w.m.workers[p.id] != nil
		if x := w.m.workers[p.id]; takes && x.phase == PhaseActive && !slices.Contains(side, p.id) {
			w.fail("worker %d takes new connections and is not one of those compared: %+v", p.id, c)
		}
	}
	for _, id := range slices.Concat(c.Candidate, c.Stable) {
		if p := w.procs[id]; p == nil || !p.accepts || p.gen == of != slices.Contains(c.Candidate, id) {
			w.fail("worker %d cannot be compared: %+v", id, c)
		}
	}
	if w.chance(w.kind.hang) {
		w.post(w.soon()*20, Judged{Rollout: c.Rollout, Why: "does worse"}, false)
	}
	switch after := time.Duration(w.r.IntN(60_000)) * time.Millisecond; w.r.IntN(5) {
	case 0, 1:
		w.post(after, Passed{Rollout: c.Rollout}, true)
	case 2:
		w.post(after, Incomparable{Rollout: c.Rollout, Why: "a worker does not count"}, true)
	}
}

// mustAwait: what can be judged has all the traffic only with a word of what was compared, or after
// the wait for it where that is to follow. It is served after its last step for so long.
func (w *world) mustAwait(of Generation, served time.Duration) {
	if w.set.MaxWait == 0 || w.set.Sticky || !w.set.Beats || w.words[w.made[of]] {
		return
	}
	if w.set.WhenInconclusive != InconclusivePromote || served < w.set.MaxWait {
		w.fail("generation %d goes on without a verdict, %v after its last step; %v, then %s", of, served, w.set.MaxWait, w.set.WhenInconclusive)
	}
}

// mustBeInconclusive: a lack of connections pauses a candidate, or takes it back, only where that
// is to follow and after the wait, and nothing closes its version to automation.
func (w *world) mustBeInconclusive(e Entry) {
	if !strings.Contains(e.Reason+e.Why, "rollout.analysis.max_wait") {
		return
	}
	steps, at := w.set.Steps, w.walkOf(e.To)
	want := w.set.WhenInconclusive == InconclusiveRollback && e.What == "reload" && e.Code == RolledBack ||
		(w.set.WhenInconclusive == "" || w.set.WhenInconclusive == InconclusivePause) && e.What == "pause" && e.Code == Done
	served := w.now.Sub(at.since)
	if !want || w.set.Sticky || !w.set.Beats || at.heard != len(steps) || served < steps[len(steps)-1].Hold+w.set.MaxWait {
		w.fail("after %v at step %d of %d: %+v", served, at.heard, len(steps), e)
	}
	if e.What == "pause" {
		at.paused = true
	}
}

// inspectCompared: a share that is in force is compared.
func (w *world) inspectCompared() {
	r := w.m.Status().Rollout
	of, _ := w.canaryIn(w.known)
	if r == nil || r.Stage != StageCanary || r.Generation != of || w.set.Sticky || !w.set.Beats || !w.m.steering.confirmed() {
		return
	}
	if w.compared.Rollout != r.ID {
		w.fail("generation %d has its share, and %+v is compared", of, w.compared)
	}
}
