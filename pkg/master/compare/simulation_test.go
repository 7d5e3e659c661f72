package compare

import (
	"flag"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/masterd/masterd/pkg/ipc"
	"github.com/masterd/masterd/pkg/master/analysis"
	"github.com/masterd/masterd/pkg/master/analysis/analysistest"
)

var rollouts = flag.Int("compare.rollouts", 200, "simulated rollouts of each kind")

const (
	moments = 10   // of each tick: whatever happens does in one of them
	length  = 25   // ticks of each step
	begin   = 1000 // the tick in which the rollout begins
)

var steps = []float64{0.01, 0.1, 0.5}

// service is a simulated one, whose two versions are the same.
type service struct {
	candidate, stable int     // workers
	arrivals          int     // connections that are drawn at each moment
	lost              float64 // the share of messages that are
	hang, die         float64 // the chance of each, of each worker in each tick in which errors come
	errs              func(tick int64) float64
}

// process is a worker.
type process struct {
	id        uint64
	candidate bool
	phase     int // the moment of its beats
	hangs     int // moments, from now on
	waiting   int // connections that it has not accepted
	open      []client
	asked     *ipc.Compare // what it has not read
	compare   ipc.Compare
	from      int64
	counted   map[int64]Side
	all, word Side // since it was asked; what it has said last of that
}

// client is one connection.
type client struct {
	accepted, ends int64
	failed         bool
}

// run is one rollout.
type run struct {
	service
	rng      *rand.Rand
	set      *Set
	workers  []*process
	last     uint64
	before   []analysis.Units // by step, what the latest words came to, of intervals that have ended
	careless bool             // by the latest words it has failed
}

// simulate runs one rollout. It returns what became of it, and whether it would have failed by the
// latest word of each worker, as it comes.
func (x service) simulate(rng *rand.Rand) (Result, bool) {
	r := &run{service: x, rng: rng, set: New(), before: make([]analysis.Units, len(steps))}
	for i := range x.candidate + x.stable {
		r.workers = append(r.workers, r.start(i < x.candidate))
	}
	for step, weight := range steps {
		r.before[step].Weight = weight
		for moment := range int64(length * moments) {
			at := (begin+int64(step*length))*moments + moment
			now, tick := time.Duration(at)*ipc.CompareTick/moments, at/moments
			anew := moment == 0
			for i, w := range r.workers {
				switch bad := at%moments == 0 && x.errs(tick) > 0.1; {
				case bad && rng.Float64() < x.hang:
					w.hangs += 5 + rng.IntN(6*moments)
				case bad && rng.Float64() < x.die:
					r.add(&r.before[step], w)
					r.workers[i], anew = r.start(w.candidate), true
				}
			}
			if anew {
				r.ask(step, now)
			}
			r.draw(weight)
			for _, w := range r.workers {
				r.serve(w, tick)
				if int(at%moments) == w.phase && w.hangs == 0 {
					r.beat(w, step, tick, now)
				}
			}
		}
		for _, w := range r.workers {
			r.add(&r.before[step], w)
			w.word = Side{}
		}
		r.set.End()
	}
	out, _ := r.set.Result()
	return out, r.careless
}

func (r *run) start(candidate bool) *process {
	r.last++
	return &process{id: r.last, candidate: candidate, phase: r.rng.IntN(moments)}
}

// ask begins an interval.
func (r *run) ask(step int, now time.Duration) {
	in := Interval{Rollout: 1, Weight: steps[step]}
	for _, w := range r.workers {
		if w.candidate {
			in.Candidate = append(in.Candidate, w.id)
		} else {
			in.Stable = append(in.Stable, w.id)
		}
	}
	c := r.set.Begin(settings, in, now)
	for _, w := range r.workers {
		r.add(&r.before[step], w)
		w.asked, w.word = &c, Side{}
	}
}

// add adds a worker's latest word.
func (r *run) add(to *analysis.Units, w *process) {
	if w.candidate {
		to.Candidate += w.word.Had
	} else {
		to.Stable += w.word.Had
	}
}

// draw has some clients connect.
func (r *run) draw(weight float64) {
	for range r.arrivals {
		candidate := r.rng.Float64() < weight
		i := r.rng.IntN(r.stable) + r.candidate
		if candidate {
			i = r.rng.IntN(r.candidate)
		}
		r.workers[i].waiting++ // those of the candidate have the first places
	}
}

// serve is a moment of a worker.
func (r *run) serve(w *process, tick int64) {
	if w.hangs > 0 {
		w.hangs--
		return
	}
	if w.asked != nil {
		w.compare, w.from, w.asked = *w.asked, max(w.asked.Since, tick+1), nil
		w.counted, w.all = map[int64]Side{}, Side{}
	}
	for ; w.waiting > 0; w.waiting-- {
		w.open = append(w.open, client{accepted: tick, ends: tick + int64(r.rng.IntN(3))})
		if tick >= w.from {
			w.counted[tick] = Side{w.counted[tick].Drawn + 1, w.counted[tick].Had}
		}
	}
	kept := w.open[:0]
	for _, c := range w.open {
		if r.rng.IntN(moments) < 2 && r.rng.Float64() < r.errs(tick) && !c.failed {
			c.failed = true
			if c.accepted >= w.compare.Since && tick >= w.from {
				w.counted[tick] = Side{w.counted[tick].Drawn, w.counted[tick].Had + 1}
				w.all.Had++
			}
		}
		if c.ends > tick {
			kept = append(kept, c)
		}
	}
	w.open = kept
}

// beat has a worker say what it has counted.
func (r *run) beat(w *process, step int, tick int64, now time.Duration) {
	if r.rng.Float64() < r.lost {
		return
	}
	c := ipc.Compared{ID: w.compare.ID, From: max(w.from, tick-ipc.MaxCompareTicks), Through: tick - 1}
	for t := c.From; t <= c.Through; t++ {
		c.Drawn = append(c.Drawn, uint64(t), w.counted[t].Drawn)
		c.Failed = append(c.Failed, uint64(t), w.counted[t].Had)
	}
	r.set.Heard(w.id, &c, now)
	if changed := w.word != w.all; !changed || r.careless {
		return
	}
	w.word = w.all
	words := append([]analysis.Units(nil), r.before...)
	for _, w := range r.workers {
		r.add(&words[step], w)
	}
	r.careless = analysis.Evidence(settings.Measures[Errors].Ratio, words) >= 1/settings.Alpha
}

// An unchanged version fails with a chance of alpha at most, whenever its workers are heard and
// whatever befalls them. By the latest word of each it would fail far more often.
func TestSimulatedUnchangedVersions(t *testing.T) {
	evenly := func(int64) float64 { return 0.02 }
	bursts := func(tick int64) float64 {
		if tick%10 < 3 {
			return 0.4
		}
		return 0.001
	}
	outage := func(tick int64) float64 {
		if tick >= begin+length+10 && tick < begin+length+13 {
			return 0.4
		}
		return 0.0005
	}
	for _, x := range []struct {
		name     string
		s        service
		careless bool // by the latest words far more fail
	}{
		{"evenly", service{2, 4, 8, 0, 0, 0, evenly}, false},
		{"bursts", service{2, 4, 8, 0, 0, 0, bursts}, false},
		{"bursts, a tenth of messages is lost", service{2, 4, 8, 0.1, 0, 0, bursts}, false},
		{"bursts, workers hang in them", service{2, 4, 8, 0.1, 0.05, 0, bursts}, false},
		{"bursts, workers die in them", service{2, 4, 8, 0.1, 0, 0.05, bursts}, false},
		{"bursts, workers hang and die in them", service{1, 2, 8, 0.1, 0.05, 0.05, bursts}, false},
		{"one outage, of many clients", service{2, 4, 30, 0, 0, 0, outage}, true},
		{"one outage, of many clients, and workers hang and die in it", service{2, 4, 30, 0.1, 0.1, 0.1, outage}, true},
		{"one outage, half of messages is lost", service{2, 2, 30, 0.5, 0, 0, outage}, true},
	} {
		t.Run(x.name, func(t *testing.T) {
			t.Parallel()
			rng := rand.New(rand.NewPCG(1, 2))
			failed, naive, outcomes := 0, 0, map[analysis.Outcome]int{}
			var drawn, errs uint64
			for range *rollouts {
				r, careless := x.s.simulate(rng)
				outcomes[r.Outcome]++
				if r.Outcome == analysis.Fail {
					failed++
				}
				if careless {
					naive++
				}
				drawn += r.Measures[Errors].Candidate.Drawn + r.Measures[Errors].Stable.Drawn
				errs += r.Measures[Errors].Candidate.Had + r.Measures[Errors].Stable.Had
			}
			n := float64(*rollouts) / 100
			low, high := analysistest.Wilson(failed, *rollouts)
			naiveLow, naiveHigh := analysistest.Wilson(naive, *rollouts)
			t.Logf("false failures of %d: %.2f %% (%.2f to %.2f), by the latest words %.1f %% (%.1f to %.1f); %v; of each %d "+
				"connections counted, %d with an error", *rollouts, float64(failed)/n, 100*low, 100*high, float64(naive)/n,
				100*naiveLow, 100*naiveHigh, outcomes, drawn/uint64(*rollouts), errs/uint64(*rollouts))
			if low > settings.Alpha {
				t.Errorf("more than %v of unchanged versions fail", settings.Alpha)
			}
			if outcomes[analysis.Pass] < *rollouts*9/10 {
				t.Errorf("most should pass: %v", outcomes)
			}
			if x.careless && naiveLow < 2*settings.Alpha {
				t.Error("by the latest words as few fail: nothing is shown")
			}
		})
	}
}
