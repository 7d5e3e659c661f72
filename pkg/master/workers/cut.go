package workers

import (
	"math"
	"time"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/pkg/master/proc"
	"github.com/masterd/masterd/pkg/master/rollout"
)

// lastMessages bounds the wait for what a worker said just before it ended.
const lastMessages = 100 * time.Millisecond

// Stop ends a worker that had its time.
func (set *Set) Stop(id rollout.Worker, kill bool, why string) {
	if w := set.workers[id]; w != nil {
		w.stopped = true
	}
	set.Signal(id, kill, why)
}

// cut says what a worker that is gone took with it. One that said goodbye has
// counted it; of one that could not (killed, crashed, cut off from us) the last
// beat is all that there is. One that left by itself and ended well had nothing
// open.
func (s *sdk) cut(exit proc.Exit) rollout.Cut {
	c := s.cutSoFar()
	forced := s.stopped || exit.Signal != 0 || exit.Code != 0
	if said := s.stats; forced && !s.saidDrained && (said.Open > 0 || said.InFlight > 0) {
		c.Connections += uint64(max(said.Open, 0))
		c.Requests += uint64(max(said.InFlight, 0))
		c.Longest = max(c.Longest, milliseconds(said.LongestMS))
		c.LastBeat = true
	}
	return c
}

// cutSoFar is what the worker itself has counted.
func (s *sdk) cutSoFar() rollout.Cut {
	said := s.stats
	return rollout.Cut{
		Connections: said.Cut, Requests: said.CutRequests, Longest: milliseconds(said.CutLongestMS),
		Median: milliseconds(said.CutMedianMS),
	}
}

// milliseconds takes a worker's word for a time, within what a time can be.
func milliseconds(n int64) time.Duration {
	return time.Duration(min(max(n, 0), math.MaxInt64/int64(time.Millisecond))) * time.Millisecond
}

// DescribeCut is the form of it that people and programs read.
func DescribeCut(c rollout.Cut) *api.Cut {
	if c == (rollout.Cut{}) {
		return nil
	}
	return &api.Cut{
		Connections: c.Connections, Requests: c.Requests, LongestMS: c.Longest.Milliseconds(),
		MedianMS: c.Median.Milliseconds(),
		LastBeat: c.LastBeat, Unknown: c.Unknown,
	}
}
