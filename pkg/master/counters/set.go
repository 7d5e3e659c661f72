package counters

import (
	"maps"
	"slices"
	"time"

	"github.com/masterd/masterd/pkg/ipc"
)

const (
	maxOutcomes = 64 // what a rollout was times how it can end: there are fewer
	maxStages   = 32 // there are fewer
	maxUnderWay = 8  // rollouts that have not ended: one is on its way, others bake
)

// Source is who has counted.
type Source struct {
	Worker, Generation uint64
	Listeners          []string // of its generation; what it says of others is ignored
}

// Set counts for one service. It belongs to the master's loop.
type Set struct {
	service     *totals
	generations map[uint64]*totals
	workers     map[uint64]*worker
	rollouts    map[Outcome]uint64
	stages      map[string]Duration
	underWay    map[uint64]stage // by rollout
	restarts    uint64
	changed     bool // since the last Save
}

// stage is where a rollout is.
type stage struct {
	name  string
	since time.Time
}

// New makes a set that has counted nothing.
func New() *Set {
	return &Set{
		service: newTotals(), generations: map[uint64]*totals{}, workers: map[uint64]*worker{},
		rollouts: map[Outcome]uint64{}, stages: map[string]Duration{}, underWay: map[uint64]stage{},
	}
}

// Heard adds what has grown since the worker was last heard, and keeps its numbers of this moment.
// An older SDK says no counts, which is nil then; what its stats say is counted all the same.
func (s *Set) Heard(from Source, c *ipc.Counts, st *ipc.Stats) {
	w := s.workers[from.Worker]
	if w == nil || w.generation != from.Generation { // a generation's number is never used again
		w = newWorker(from.Generation)
		s.workers[from.Worker] = w
	}
	w.heard = true
	sum := s.of(from.Generation)
	if c != nil {
		w.said = true
		w.hear(from.Listeners, c, sum)
		s.changed = true
	}
	if st != nil {
		w.hearStats(from.Listeners, st, sum)
		s.changed = true
	}
}

// Gone forgets a worker whose process has ended: what it has counted is in the sums. cut and lost
// are connections that it took with it and has not counted itself: at the end of its drain, and
// where nobody had asked it to end.
func (s *Set) Gone(worker, generation, cut, lost uint64) {
	delete(s.workers, worker)
	for _, t := range s.of(generation) {
		add(&t.Cut, cut)
		add(&t.Lost, lost)
	}
	s.changed = true
}

// Retain forgets the sums of generations that are gone. The service's keep what they had.
func (s *Set) Retain(there func(generation uint64) bool) {
	before := len(s.generations)
	maps.DeleteFunc(s.generations, func(g uint64, _ *totals) bool { return !there(g) })
	s.changed = s.changed || len(s.generations) != before
}

// Restarted counts a worker that was started in the place of one that has ended.
func (s *Set) Restarted() {
	add(&s.restarts, 1)
	s.changed = true
}

// Entered notes that a rollout is at a stage, and counts the one that it was at.
func (s *Set) Entered(rollout uint64, name string, at time.Time) {
	was, known := s.underWay[rollout]
	if known && was.name == name {
		return
	}
	s.leave(rollout, at)
	if len(s.underWay) >= maxUnderWay {
		delete(s.underWay, slices.Min(slices.Collect(maps.Keys(s.underWay))))
	}
	s.underWay[rollout] = stage{name, at.Round(0)} // the next master goes by the wall's clock, too
	s.changed = true
}

// Abandon forgets the rollouts that were under way: this master goes on with none.
func (s *Set) Abandon() { clear(s.underWay) }

// leave counts the stage that a rollout was at.
func (s *Set) leave(rollout uint64, at time.Time) {
	was, known := s.underWay[rollout]
	if !known {
		return
	}
	delete(s.underWay, rollout)
	d, there := s.stages[was.name]
	if !there && len(s.stages) >= maxStages {
		return
	}
	add(&d.Count, 1)
	d.Seconds += max(at.Sub(was.since), 0).Seconds()
	s.stages[was.name] = d
}

// Ended counts how a rollout has ended. Zero: it had no number, as a way back at once has none.
func (s *Set) Ended(rollout uint64, o Outcome, at time.Time) {
	s.leave(rollout, at)
	if _, there := s.rollouts[o]; there || len(s.rollouts) < maxOutcomes {
		s.rollouts[o]++
	}
	s.changed = true
}

// Snapshot is all that is known now. The caller may keep it and use it beside the loop.
func (s *Set) Snapshot() Snapshot {
	out := Snapshot{
		Service: s.service.copy(), Generations: make(map[uint64]Totals, len(s.generations)),
		Workers:  make(map[uint64]Worker, len(s.workers)),
		Rollouts: maps.Clone(s.rollouts), Stages: maps.Clone(s.stages), Restarts: s.restarts,
	}
	for g, t := range s.generations {
		out.Generations[g] = t.copy()
	}
	for id, w := range s.workers {
		if w.heard {
			out.Workers[id] = w.copy()
		}
	}
	return out
}

// Of are the sums of a generation, which the caller may keep. They are empty where nobody of it
// was heard.
func (s *Set) Of(generation uint64) Totals {
	if t := s.generations[generation]; t != nil {
		return t.copy()
	}
	return Totals{}
}

// of are the sums that a worker's numbers belong to.
func (s *Set) of(generation uint64) sums {
	t := s.generations[generation]
	if t == nil {
		t = newTotals()
		s.generations[generation] = t
	}
	return sums{s.service, t}
}
