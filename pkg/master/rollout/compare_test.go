package rollout

import "slices"

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
