// Package compare compares a candidate with the version that serves beside it, by what the workers
// of both say of the connections that have an error, a slow request, or something that the program
// counts itself. What that means package analysis decides.
//
// While one weight is in force, each second is looked at by itself, and counts only when every
// worker of both versions has told all of it: else a version whose worker is heard earlier would
// seem to have more errors. So what a worker did not tell, as it died or was not heard, is left
// out of what the others have told, too.
//
// What a worker says is hostile. It can lie about its own connections, which nothing can prevent,
// and have nothing compared at all, by its silence; it cannot change what the others have told, nor
// what it has told itself.
package compare

import (
	"fmt"
	"time"

	"github.com/masterd/masterd/pkg/ipc"
	"github.com/masterd/masterd/pkg/master/analysis"
)

// Measures are compared by their place. The program's own follow on these.
const (
	Errors  = 0
	Latency = 1
	Own     = 2
	// NameErrors and NameLatency are the names of the first two.
	NameErrors  = "errors"
	NameLatency = "latency"
	// maxMeasures is how many there can be.
	maxMeasures = Own + ipc.MaxCompared
)

const (
	// settle is how long connections that were drawn by an earlier weight may wait to be accepted.
	settle = time.Second
	// maxDelay is as long as connections may count for nothing at the begin of a rollout.
	maxDelay = 1000 * time.Hour
)

// Settings are those of one rollout.
type Settings struct {
	Alpha     float64       // the chance that an unchanged version fails, over the whole rollout
	Delay     time.Duration // since the candidate has its first connections, until they count
	Measures  []Measure     // by their place; at least that of errors
	Unchanged bool          // both versions are the same, as far as anybody knows
}

// Measure is one thing that is compared.
type Measure struct {
	Name  string
	Ratio float64 // of the rates of connections with it that is still accepted
	Acts  bool    // the outcome depends on it
}

// Interval is a time in which the weights do not change.
type Interval struct {
	Rollout           uint64
	Weight            float64         // the candidate's share of new connections, between zero and one
	Candidate, Stable []uint64        // all workers that new connections go to
	Slow              []ipc.SlowRoute // what a slow request is; none: latency is not compared
}

// Result is what is known of one rollout. Once it has failed only what is of the interval changes.
type Result struct {
	Rollout    uint64
	Settings   Settings
	Outcome    analysis.Outcome
	Evidence   float64
	Wanted     float64    // evidence from which on it fails
	Measures   []Measured // as in the settings
	Weight     float64    // of the interval under way; zero: there is none
	Missing    []uint64   // workers of it that have not told what the others have waited for; nil: none
	Cannot     uint64     // a worker of it that does not count, whose SDK is older or that has none; zero: all do
	ErrorsOnly uint64     // a worker of it that counts errors alone, as its SDK is older; zero: none
}

// Why says, for people, by what a candidate has failed beside this generation.
func (r Result) Why(stable uint64) string {
	worst := Measured{Evidence: -1}
	for _, m := range r.Measures {
		if m.Acts && m.Evidence > worst.Evidence {
			worst = m
		}
	}
	about := []any{stable, worst.Candidate.Had, worst.Candidate.Drawn, worst.Stable.Had, worst.Stable.Drawn,
		analysis.Show(r.Evidence), r.Wanted}
	switch worst.Name {
	case NameErrors:
		return fmt.Sprintf("it has more errors than generation %d: %d of its %d connections had one, %d of %d there "+
			"(evidence %s, %.0f is enough)", about...)
	case NameLatency:
		return fmt.Sprintf("it is slower than generation %d: %d of its %d connections had a slow request, %d of %d there "+
			"(evidence %s, %.0f is enough)", about...)
	}
	return fmt.Sprintf("it has more %s than generation %d: they were counted on %d of its %d connections, "+
		"on %d of %d there (evidence %s, %.0f is enough)", append([]any{worst.Name}, about...)...)
}

// Measured is what is known of a measure.
type Measured struct {
	Measure
	Outcome           analysis.Outcome // if it were the only one: that it has failed stays so
	Evidence          float64
	Candidate, Stable Side
}

// Side is what one version did, over all intervals.
type Side struct {
	Drawn uint64 // connections
	Had   uint64 // of them, those with an error, or whatever the measure is of
}

// Set compares for one service. It belongs to the master's loop.
type Set struct {
	rollout  *rollout        // nil: none has been compared
	interval *interval       // nil: none is under way
	slow     []ipc.SlowRoute // of the rollout: the first that it had, as the candidate's are among later ones
	last     uint64          // the id of the newest interval
}

// New makes a set that compares nothing.
func New() *Set { return &Set{} }

// Begin begins an interval, which ends the one before, and returns what its workers are to be
// told. now is CLOCK_MONOTONIC's. What was known of another rollout is forgotten, what is known
// of this one stays, and so do its settings.
func (s *Set) Begin(st Settings, in Interval, now time.Duration) ipc.Compare {
	now = max(now, 0)
	if s.rollout == nil || s.rollout.id != in.Rollout {
		st.Delay = min(max(st.Delay, 0), maxDelay)
		st.Measures = st.Measures[:min(len(st.Measures), maxMeasures)]
		s.rollout, s.slow = newRollout(in.Rollout, st, now), nil
	}
	if len(s.slow) == 0 {
		s.slow = in.Slow
	}
	in.Slow = s.slow
	r := s.rollout
	r.first = min(r.first, now) // what was restored can be anything
	s.last = max(uint64(now), s.last+1)
	from := max(now+settle, r.first+r.settings.Delay)
	s.interval = newInterval(s.last, tickOf(from+ipc.CompareTick-1), len(r.settings.Measures), in)
	out := ipc.Compare{ID: s.last, Since: s.interval.since}
	for i, m := range r.settings.Measures {
		switch {
		case i == Latency:
			out.Slow = in.Slow
		case i >= Own:
			out.Measures = append(out.Measures, m.Name)
		}
	}
	return out
}

// End ends the interval, before the weights change. What not every worker has told is left out.
func (s *Set) End() { s.interval = nil }

// Heard takes what a worker says; nil: it does not count. now is CLOCK_MONOTONIC's, since it was
// heard. It reports whether more is known than before.
func (s *Set) Heard(worker uint64, c *ipc.Compared, now time.Duration) bool {
	in := s.interval
	if in == nil {
		return false
	}
	in.now = max(in.now, tickOf(now))
	if c == nil || c.ID != in.id || in.cannot != 0 || in.workers[worker] == nil {
		return false
	}
	return s.rollout.add(in.weight, in.hear(worker, c, tickOf(now)))
}

// Cannot notes that a worker does not count: in this interval nothing is compared.
func (s *Set) Cannot(worker uint64) {
	if in := s.interval; in != nil && in.cannot == 0 && in.workers[worker] != nil {
		in.cannot = worker
	}
}

// Result is what is known of the newest rollout; false: there is none.
func (s *Set) Result() (Result, bool) {
	r := s.rollout
	if r == nil {
		return Result{}, false
	}
	out := Result{Rollout: r.id, Settings: r.settings, Measures: r.measured(),
		Outcome: r.verdict.Outcome, Evidence: r.verdict.Evidence, Wanted: r.verdict.Wanted}
	if in := s.interval; in != nil {
		out.Weight, out.Cannot, out.ErrorsOnly, out.Missing = in.weight, in.cannot, in.errorsOnly, in.missing()
	}
	return out, true
}
