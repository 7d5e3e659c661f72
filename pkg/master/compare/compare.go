// Package compare compares a candidate with the version that serves beside it, by what the workers
// of both say of the connections that have an error. What that means package analysis decides.
//
// While one weight is in force, each second is looked at by itself, and counts only when every
// worker of both versions has told all of it: else a version whose worker is heard earlier would
// seem to have more errors. So what a worker did not tell, as it died or was not heard, is left
// out of what the others have told, too.
package compare

import (
	"time"

	"github.com/masterd/masterd/pkg/ipc"
	"github.com/masterd/masterd/pkg/master/analysis"
)

// Settings are those of one rollout.
type Settings struct {
	Alpha float64       // the chance that an unchanged version fails, over the whole rollout
	Ratio float64       // of the rates of connections with an error that is still accepted
	Delay time.Duration // since the candidate has its first connections, until they count
}

// Interval is a time in which the weights do not change.
type Interval struct {
	Rollout           uint64
	Weight            float64  // the candidate's share of new connections, between zero and one
	Candidate, Stable []uint64 // all workers that new connections go to
}

// Result is what is known of one rollout.
type Result struct {
	Rollout           uint64
	Settings          Settings
	Outcome           analysis.Outcome
	Evidence          float64
	Wanted            float64 // evidence from which on it fails
	Candidate, Stable Side
	Weight            float64  // of the interval under way; zero: there is none
	Missing           []uint64 // workers of it that have not told what the others have waited for; nil: none
	Cannot            uint64   // a worker of it that does not count, whose SDK is older or that has none; zero: all do
}

// Side is what one version did, over all intervals.
type Side struct {
	Drawn  uint64 // connections
	Failed uint64 // of them
}

// Set compares for one service. It belongs to the master's loop.
type Set struct {
	// TODO
}

// New makes a set that compares nothing.
func New() *Set { return &Set{} }

// Begin begins an interval, which ends the one before, and returns what its workers are to be
// told. now is CLOCK_MONOTONIC's. What was known of another rollout is forgotten, what is known
// of this one stays.
func (s *Set) Begin(st Settings, in Interval, now time.Duration) ipc.Compare { return ipc.Compare{} }

// End ends the interval, before the weights change. What not every worker has told is left out.
func (s *Set) End() {}

// Heard takes what a worker says. It reports whether more is known than before.
func (s *Set) Heard(worker uint64, c *ipc.Compared, now time.Duration) bool { return false }

// Cannot notes that a worker does not count: in this interval nothing is compared.
func (s *Set) Cannot(worker uint64) {}

// Result is what is known of the newest rollout; false: there is none.
func (s *Set) Result() (Result, bool) { return Result{}, false }

// Saved is what the next master needs to go on, in JSON: what is known of the rollout, without the
// interval, which it begins anew. nil: nothing is known.
func (s *Set) Saved() []byte { return nil }

// Restore goes on where the master before has stopped. When it returns an error, the set knows
// nothing.
func (s *Set) Restore(text []byte) error { return nil }
