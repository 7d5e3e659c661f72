package workers

import (
	"fmt"
	"slices"
	"strings"

	"go.uber.org/zap"

	"github.com/masterd/masterd/pkg/ipc"
	"github.com/masterd/masterd/pkg/master/analysis"
	"github.com/masterd/masterd/pkg/master/compare"
	"github.com/masterd/masterd/pkg/master/config"
	"github.com/masterd/masterd/pkg/master/rollout"
)

// comparison is what workers were asked last to count.
type comparison struct {
	asked   *ipc.Compare // nil: nothing
	rollout rollout.Rollout
	stable  rollout.Generation
	workers []rollout.Worker
	acts    bool // a candidate that does worse is taken back
	passed  bool // the machine was told that it does not
}

// compares is what is known of one worker.
type compares struct {
	seq     uint64 // of the last message about a comparison; zero: there was none
	refused bool   // it has refused to count for one
}

// Compare has the workers of a candidate, and of the generation beside it, count for a comparison,
// or no more.
func (set *Set) Compare(c rollout.Compare) {
	before := set.comparison
	set.comparison = comparison{}
	if c.Weight == 0 {
		set.Comparisons.End()
		for _, id := range before.workers {
			set.tellCompare(id, nil)
		}
		return
	}
	candidate, stable := set.workers[c.Candidate[0]], set.workers[c.Stable[0]]
	if candidate == nil || stable == nil { // it has ended, which the machine is about to hear
		set.Comparisons.End()
		return
	}
	a := candidate.Generation.Config.Rollout.Analysis
	asked := set.Comparisons.Begin(set.compareSettings(candidate.Generation, stable.Generation), compare.Interval{
		Rollout: uint64(c.Rollout), Weight: float64(c.Weight) / rollout.Whole,
		Candidate: numbers(c.Candidate), Stable: numbers(c.Stable),
		Slow: compare.Slow(set.Counters.Of(uint64(stable.Generation.ID)).Routes,
			float64(a.Latency.SlowerBy)/rollout.Whole, a.Latency.AtLeast),
	}, set.System.Monotonic())
	set.comparison = comparison{asked: &asked, rollout: c.Rollout, stable: stable.Generation.ID,
		workers: slices.Concat(c.Candidate, c.Stable), acts: a.Act != config.ActReport}
	for _, id := range set.comparison.workers {
		set.tellCompare(id, &asked)
	}
	set.judge() // what an earlier master has found, and did not live to say
}

// latencyRatio is how many times as many connections may have a slow request: what is slow leaves
// room by itself.
const latencyRatio = 1.5

// compareSettings are those of a rollout, if it is compared now for the first time.
func (set *Set) compareSettings(candidate, stable *Generation) compare.Settings {
	a := candidate.Config.Rollout.Analysis
	all := a.Act == config.ActAll
	st := compare.Settings{
		Alpha: float64(a.Alpha) / rollout.Whole, Delay: a.Delay, Unchanged: unchanged(candidate, stable),
		Measures: []compare.Measure{
			compare.Errors:  {Name: compare.NameErrors, Ratio: a.Errors.Ratio, Acts: true},
			compare.Latency: {Name: compare.NameLatency, Ratio: latencyRatio, Acts: all && set.Master.LatencyRecord().Proven()},
		},
	}
	for _, m := range a.Measures {
		st.Measures = append(st.Measures, compare.Measure{Name: m.Name, Ratio: m.Ratio, Acts: all})
	}
	return st
}

// unchanged: both are the same program with the same configuration, but for how it is rolled out.
func unchanged(candidate, stable *Generation) bool {
	return candidate.Version.ID == stable.Version.ID &&
		!slices.ContainsFunc(config.Diff(stable.Config, candidate.Config), func(c config.Change) bool {
			return !strings.HasPrefix(c.Key, "rollout.")
		})
}

func numbers(of []rollout.Worker) (all []uint64) {
	for _, id := range of {
		all = append(all, uint64(id))
	}
	return all
}

// tellCompare tells one worker. One that is not connected is told when it is back.
func (set *Set) tellCompare(id rollout.Worker, c *ipc.Compare) {
	s := set.sdk(id)
	switch {
	case s == nil || s.compares.refused:
		set.Comparisons.Cannot(uint64(id))
		if s != nil {
			set.incomparable(s)
		}
		return
	case !s.session.Connected():
		return
	}
	seq, err := s.session.Compare(c)
	if s.compares.seq = seq; err != nil {
		set.warn(s.Worker, "a worker cannot be told to count for a comparison", zap.Error(err))
	}
}

// repeatCompare tells a worker that is back: it counts no more since its connection ended.
func (set *Set) repeatCompare(s *sdk) {
	if c := set.comparison; c.asked != nil && slices.Contains(c.workers, s.ID) {
		set.tellCompare(s.ID, c.asked)
	}
}

// compareRefused reports whether the worker has refused to count: its SDK is older.
func (s *sdk) compareRefused(seq uint64) bool {
	if s.compares.seq == 0 || seq != s.compares.seq {
		return false
	}
	s.compares.refused = true // and is asked no more
	s.set.Comparisons.Cannot(uint64(s.ID))
	s.set.incomparable(s)
	return true
}

// incomparable tells the machine that nothing can be compared, as a worker does not count.
func (set *Set) incomparable(s *sdk) {
	if c := set.comparison; c.asked != nil && slices.Contains(c.workers, s.ID) {
		set.Master.Step(rollout.Incomparable{Rollout: c.rollout,
			Why: fmt.Sprintf("worker %d does not count errors, so nothing is compared", s.ID)})
	}
}

// heardCompared takes what a worker has counted for a comparison.
func (set *Set) heardCompared(s *sdk, c *ipc.Compared) {
	if set.Comparisons.Heard(uint64(s.ID), c, set.System.Monotonic()) {
		set.Master.KeepLive() // at most once a tick
		set.judge()
	}
}

// judge tells the machine of a candidate that does worse, or that would have been seen to.
func (set *Set) judge() {
	c := set.comparison
	r, ok := set.Comparisons.Result()
	if !ok || c.asked == nil || !c.acts || r.Rollout != uint64(c.rollout) {
		return
	}
	switch r.Outcome {
	case analysis.Pass:
		if !c.passed {
			set.comparison.passed = true
			set.Master.Step(rollout.Passed{Rollout: c.rollout})
		}
		return
	case analysis.Fail:
	default:
		return
	}
	set.Master.Step(rollout.Judged{Rollout: c.rollout, Why: r.Why(uint64(c.stable))})
}
