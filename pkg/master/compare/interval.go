package compare

import (
	"maps"
	"slices"
	"time"

	"github.com/masterd/masterd/pkg/ipc"
)

const (
	// maxInTick is how many connections one worker can have in one tick: more is a lie.
	maxInTick = 1_000_000
	// patience is how many ticks a worker may be behind the others until it is missing.
	patience = 5
)

// interval is one that is under way. Its ticks are decided in their order: each is counted, or is
// left out for all workers.
type interval struct {
	id         uint64
	weight     float64
	since      int64 // the first tick of which anything counts
	now        int64 // the newest tick in which anybody was heard
	workers    map[uint64]*worker
	cannot     uint64 // a worker that does not count
	errorsOnly uint64 // one that counts errors alone; of others nothing is counted any more
	// measures is how many are compared; slow: latency is one of them.
	measures int
	slow     bool
	next     int64 // the first tick that is not decided
	// pending are it and those after it, by their number modulo: what a worker has told must be
	// kept, as its next message may have it no more when another lags.
	pending [ipc.MaxCompareTicks]tick
}

// worker is one of an interval.
type worker struct {
	candidate bool
	last      int64 // the newest tick that it has told; since - 1: none
	sum       sides // of the ticks that were counted
}

// sides are what one version did, by the place of the measure.
type sides [maxMeasures]Side

// tick is what is known of one.
type tick struct {
	out bool // somebody will never tell it
	by  map[uint64]tally
}

// tally is what one worker has counted in one tick.
type tally struct {
	drawn uint64
	had   [maxMeasures]uint64
}

// counts are those of both versions.
type counts struct{ candidate, stable sides }

// newInterval begins one. Without a worker of either version there is nothing to compare: then
// nobody is heard.
func newInterval(id uint64, since int64, measures int, of Interval) *interval {
	in := &interval{id: id, weight: of.Weight, since: since, next: since, workers: map[uint64]*worker{},
		measures: measures, slow: len(of.Slow) > 0}
	if len(of.Candidate) == 0 || len(of.Stable) == 0 {
		return in
	}
	for _, w := range of.Stable {
		in.workers[w] = &worker{last: since - 1}
	}
	for _, w := range of.Candidate {
		in.workers[w] = &worker{candidate: true, last: since - 1}
	}
	return in
}

// hear takes what one of its workers says in a tick, and returns what is counted by that.
func (in *interval) hear(id uint64, c *ipc.Compared, now int64) (sum counts) {
	w := in.workers[id]
	through := min(c.Through, now-1) // what has not passed cannot have been counted
	if c.From <= through {
		w.last = max(w.last, through)
	}
	in.never(id, min(c.From, now))
	in.decide(&sum)
	if through < in.next {
		return sum
	}
	if Latency+len(c.Others) < in.measures {
		in.measures, in.errorsOnly = Errors+1, id
	}
	first := max(c.From, in.next, through-ipc.MaxCompareTicks+1)
	drawn := spread(c.Drawn, first, through)
	had := make([][ipc.MaxCompareTicks]uint64, in.measures)
	had[Errors] = spread(c.Failed, first, through)
	for i := Latency; i < in.measures; i++ {
		had[i] = spread(c.Others[i-Latency], first, through)
	}
	for t := first; t <= through; t++ {
		in.skip(t - ipc.MaxCompareTicks + 1)
		if t < in.next {
			continue // somebody else can tell it no more
		}
		k := in.at(t)
		if _, has := k.by[id]; has {
			continue // the first word counts
		}
		if k.by == nil {
			k.by = make(map[uint64]tally, len(in.workers))
		}
		n := tally{drawn: drawn[t%ipc.MaxCompareTicks]}
		for i := range had {
			n.had[i] = had[i][t%ipc.MaxCompareTicks]
		}
		k.by[id] = n
		in.decide(&sum)
	}
	return sum
}

// at is a pending tick.
func (in *interval) at(t int64) *tick { return &in.pending[t%ipc.MaxCompareTicks] }

// never notes that a worker tells nothing of ticks before this one any more.
func (in *interval) never(id uint64, from int64) {
	if from <= in.next {
		return
	}
	in.skip(from - ipc.MaxCompareTicks)
	for t := in.next; t < from; t++ {
		if _, has := in.at(t).by[id]; !has {
			in.at(t).out = true
		}
	}
}

// skip leaves all ticks before this one out.
func (in *interval) skip(to int64) {
	for t := in.next; t < min(to, in.next+ipc.MaxCompareTicks); t++ {
		*in.at(t) = tick{}
	}
	in.next = max(in.next, to)
}

// decide decides what can be decided.
func (in *interval) decide(sum *counts) {
	for {
		k := in.at(in.next)
		if !k.out && len(k.by) < len(in.workers) {
			return
		}
		if !k.out {
			in.count(k.by, sum)
		}
		*k = tick{}
		in.next++
	}
}

// count adds a tick that all have told.
func (in *interval) count(by map[uint64]tally, sum *counts) {
	for id, n := range by {
		w := in.workers[id]
		of := &sum.stable
		if w.candidate {
			of = &sum.candidate
		}
		for i := range in.measures {
			if i != Latency || in.slow {
				addTo(&of[i], &w.sum[i], Side{n.drawn, n.had[i]})
			}
		}
	}
}

// addTo adds what a worker has of a measure in a tick to its version's, and to its own sum.
func addTo(of, sum *Side, n Side) {
	add(&sum.Drawn, n.Drawn)
	add(&sum.Had, n.Had)
	// A connection may have its error in a tick that counts and have been drawn in one that was
	// left out. Dropping the error would have it missing from one version, and not the other.
	if before := sum.Had - min(sum.Had, sum.Drawn); before > 0 {
		add(&n.Drawn, before)
		add(&sum.Drawn, before)
	}
	add(&of.Drawn, n.Drawn)
	add(&of.Had, n.Had)
}

// spread are the counts of the ticks from first to last, by their number modulo. Pairs that name
// another one are ignored, and so are more pairs than a message may have.
func spread(pairs []uint64, first, last int64) (all [ipc.MaxCompareTicks]uint64) {
	pairs = pairs[:min(len(pairs), 2*ipc.MaxCompareTicks)]
	for i := 0; i+1 < len(pairs); i += 2 {
		if t := pairs[i]; first <= last && t >= uint64(first) && t <= uint64(last) {
			n := &all[t%ipc.MaxCompareTicks]
			*n = max(*n, min(pairs[i+1], maxInTick))
		}
	}
	return all
}

// missing are the workers that are far behind the one that is ahead, and those that have told
// nothing although their time has come.
func (in *interval) missing() (all []uint64) {
	ahead := in.since - 1
	for _, w := range in.workers {
		ahead = max(ahead, w.last)
	}
	for _, id := range slices.Sorted(maps.Keys(in.workers)) {
		last := in.workers[id].last
		if ahead-last > patience || last < in.since && in.now-in.since > patience {
			all = append(all, id)
		}
	}
	return all
}

func tickOf(t time.Duration) int64 { return int64(t / ipc.CompareTick) }
