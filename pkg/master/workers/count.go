package workers

import (
	"github.com/masterd/masterd/pkg/master/counters"
	"github.com/masterd/masterd/pkg/master/rollout"
	"github.com/masterd/masterd/pkg/master/session"
)

// count adds up what the worker has counted.
func (s *sdk) count(f session.Fact) {
	if f.Stats == nil && f.Counts == nil || s.set.workers[s.ID] != s.Worker { // it is gone, and has no base any more
		return
	}
	s.set.Counters.Heard(counters.Source{Worker: uint64(s.ID), Generation: uint64(s.Generation.ID),
		Listeners: s.Generation.Names()}, f.Counts, f.Stats)
	if f.Counts != nil && f.Counts.Compared != nil {
		s.set.heardCompared(s, f.Counts.Compared)
	}
}

// countGone adds the connections that a worker took with it: cut, if it was asked to end, and
// else lost.
func (set *Set) countGone(w *Worker, c rollout.Cut) {
	n := c.Connections
	if s, speaks := w.kind.(*sdk); speaks {
		n -= s.stats.Cut // it has counted those itself
	}
	var cut, lost uint64
	if w.asked {
		cut = n
	} else {
		lost = n
	}
	set.Counters.Gone(uint64(w.ID), uint64(w.Generation.ID), cut, lost)
}
