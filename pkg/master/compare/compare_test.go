package compare

import (
	"math"
	"reflect"
	"testing"
	"time"

	"github.com/masterd/masterd/pkg/ipc"
	"github.com/masterd/masterd/pkg/master/analysis"
)

// errorsAt are measures of which errors are all.
func errorsAt(ratio float64) []Measure {
	return []Measure{{Name: NameErrors, Ratio: ratio, Acts: true}}
}

var settings = Settings{Alpha: 0.01, Measures: errorsAt(1.5)}

// Of these tests' interval 1 and 2 are the candidate's workers, 3 and 4 the others.
func interval1(weight float64) Interval {
	return Interval{Rollout: 7, Weight: weight, Candidate: []uint64{1, 2}, Stable: []uint64{3, 4}}
}

// begun is a set with such an interval, in which ticks count from 100 on.
func begun() (*Set, uint64) {
	s := New()
	c := s.Begin(settings, interval1(0.1), 99*time.Second)
	if c.Since != 100 {
		panic("since")
	}
	return s, c.ID
}

// far is a time at which all ticks of a test have passed.
const far = 1000 * time.Second

func said(id uint64, from, through int64, drawn, failed []uint64) *ipc.Compared {
	return &ipc.Compared{ID: id, From: from, Through: through, Drawn: drawn, Failed: failed}
}

// both are what is counted of errors.
func both(t testing.TB, s *Set) (candidate, stable Side) {
	t.Helper()
	r, ok := s.Result()
	if !ok {
		t.Fatal("nothing is known")
	}
	return r.Measures[Errors].Candidate, r.Measures[Errors].Stable
}

func wantSides(t testing.TB, s *Set, candidate, stable Side) {
	t.Helper()
	if c, b := both(t, s); c != candidate || b != stable {
		t.Errorf("%+v and %+v, want %+v and %+v", c, b, candidate, stable)
	}
}

func TestSince(t *testing.T) {
	s := New()
	delayed := Settings{Alpha: 0.01, Measures: errorsAt(1.5), Delay: 10 * time.Second}
	for i, x := range []struct {
		rollout uint64
		now     time.Duration
		since   int64
	}{
		{1, 5 * time.Second, 15},
		{1, 9 * time.Second, 15},
		{1, 14*time.Second + 1, 16},
		{1, 20 * time.Second, 21},
		{2, 20 * time.Second, 30},
		{1, 20*time.Second + time.Nanosecond, 31}, // it is not remembered
		{3, 0, 10}, // a clock that goes back
		{3, -time.Hour, 10},
	} {
		before := s.last
		in := interval1(0.1)
		in.Rollout = x.rollout
		c := s.Begin(delayed, in, x.now)
		if c.Since != x.since || c.ID == 0 || c.ID <= before {
			t.Errorf("%d: since %d, want %d; id %d after %d", i, c.Since, x.since, c.ID, before)
		}
	}
	if c := New().Begin(settings, interval1(0.1), time.Hour); c.ID != uint64(time.Hour) {
		t.Errorf("id %d is one that another master may have had", c.ID)
	}
	if c := New().Begin(Settings{Delay: math.MaxInt64}, interval1(0.1), far); c.Since != int64((far+maxDelay)/time.Second) {
		t.Errorf("since %d", c.Since)
	}
}

// One tick is counted when the last worker has told it, and not before.
func TestATickCountsWhenAllHaveToldIt(t *testing.T) {
	s, id := begun()
	for w := uint64(1); w <= 4; w++ {
		wantSides(t, s, Side{}, Side{})
		more := s.Heard(w, said(id, 100, 101, []uint64{100, 10 * w, 101, 1}, []uint64{101, w}), far)
		if more != (w == 4) {
			t.Errorf("worker %d: more is known: %v", w, more)
		}
	}
	wantSides(t, s, Side{32, 3}, Side{72, 7})
	if s.Heard(1, said(id, 100, 102, []uint64{100, 99, 101, 99}, []uint64{101, 99}), far) {
		t.Error("what has been counted comes again")
	}
	// The first word of 102 is that of nothing.
	for w := uint64(1); w <= 4; w++ {
		s.Heard(w, said(id, 102, 103, []uint64{102, 50}, nil), far)
	}
	wantSides(t, s, Side{82, 3}, Side{172, 7})
	r, _ := s.Result()
	want := analysis.Judge(0.01, []analysis.Measure{
		{Ratio: 1.5, Drawn: []analysis.Units{{Weight: 0.1, Candidate: 82, Stable: 172}}, Units: []analysis.Units{{Weight: 0.1, Candidate: 3, Stable: 7}}}})
	if r.Outcome != want.Outcome || r.Evidence != want.Evidence || r.Wanted != 100 || r.Weight != 0.1 || r.Rollout != 7 {
		t.Errorf("%+v, want %+v", r, want)
	}
}

func TestWhoIsNotHeard(t *testing.T) {
	s, id := begun()
	all := func(id uint64, workers ...uint64) {
		for _, w := range workers {
			if s.Heard(w, said(id, 100, 100, []uint64{100, 5}, nil), far) {
				t.Errorf("worker %d of %d is heard", w, id)
			}
		}
	}
	all(id-1, 1, 2, 3, 4)
	all(id+1, 1, 2, 3, 4)
	all(id, 1, 2, 3, 5, 0)
	if s.Heard(4, nil, far) {
		t.Error("nothing is heard")
	}
	s.Cannot(5) // is not of it
	if r, _ := s.Result(); r.Cannot != 0 {
		t.Errorf("%d cannot", r.Cannot)
	}
	s.Cannot(4)
	s.Cannot(3)
	all(id, 4)
	if r, _ := s.Result(); r.Cannot != 4 || r.Outcome != analysis.Inconclusive {
		t.Errorf("%+v", r)
	}
	s.End()
	all(id, 4)
	if r, ok := s.Result(); !ok || r.Weight != 0 || r.Cannot != 0 || r.Missing != nil {
		t.Errorf("%+v", r)
	}
	s.Begin(settings, interval1(0.1), far)
	if r, _ := s.Result(); r.Cannot != 0 || r.Weight != 0.1 {
		t.Errorf("%+v", r)
	}
	// With one version alone there is nothing to compare.
	for _, in := range []Interval{{Weight: 0.1, Stable: []uint64{3}}, {Weight: 0.1, Candidate: []uint64{3}}, {Weight: 0.1}} {
		id = s.Begin(settings, in, 98*time.Second).ID
		all(id, 3)
	}
	s = New()
	if _, ok := s.Result(); ok || s.Heard(1, said(0, 0, 9, nil, nil), far) || s.Saved() != nil {
		t.Error("something is known at first")
	}
	s.Cannot(1)
	s.End()
}

// An interval ends with all that not every worker has told.
func TestIntervals(t *testing.T) {
	s, id := begun()
	tell := func(workers ...uint64) {
		for _, w := range workers {
			s.Heard(w, said(id, 0, 200, []uint64{200, 10}, []uint64{200, w / 2}), far)
		}
	}
	tell(1, 2, 3)
	c := s.Begin(settings, interval1(0.1), 100*time.Second)
	tell(4)
	wantSides(t, s, Side{}, Side{})
	id = c.ID
	tell(1, 2, 3, 4)
	wantSides(t, s, Side{20, 1}, Side{20, 3})
	id = s.Begin(Settings{Alpha: 0.5, Measures: errorsAt(9)}, interval1(0.5), 101*time.Second).ID
	tell(1, 2, 3, 4)
	id = s.Begin(settings, interval1(0.1), 102*time.Second).ID
	tell(1, 2, 3, 4)
	wantSides(t, s, Side{60, 3}, Side{60, 9})
	r, _ := s.Result()
	want := analysis.Evidence(1.5, []analysis.Units{{Weight: 0.1, Candidate: 2, Stable: 6}, {Weight: 0.5, Candidate: 1, Stable: 3}})
	if r.Evidence != want || !reflect.DeepEqual(r.Settings, settings) {
		t.Errorf("%+v, want %v", r, want)
	}
	other := interval1(0.1)
	other.Rollout = 8
	s.Begin(Settings{Alpha: 0.5, Measures: errorsAt(9)}, other, far)
	wantSides(t, s, Side{}, Side{})
	if r, _ := s.Result(); r.Settings.Alpha != 0.5 || r.Rollout != 8 || r.Evidence != 1 {
		t.Errorf("%+v", r)
	}
}

func TestWeights(t *testing.T) {
	s := New()
	count := func(weight float64) {
		id := s.Begin(settings, interval1(weight), 99*time.Second).ID
		for w := uint64(1); w <= 4; w++ {
			s.Heard(w, said(id, 100, 100, []uint64{100, 1}, nil), far)
		}
	}
	for _, w := range []float64{0, 1, -1, 2, math.NaN(), math.Inf(1)} {
		count(w)
	}
	wantSides(t, s, Side{}, Side{})
	for i := range 2 * maxWeights {
		count(float64(i+1) / 1000)
	}
	count(0.001)
	wantSides(t, s, Side{Drawn: 2*maxWeights + 2}, Side{Drawn: 2*maxWeights + 2})
	if text := s.Saved(); New().Restore(text) != nil {
		t.Errorf("%s is refused", text)
	}
}

// What has failed has failed, with the figures of that moment.
func TestFailIsLatched(t *testing.T) {
	s, id := begun()
	var at Result
	for tick := int64(100); tick < 130; tick++ {
		for w := uint64(1); w <= 4; w++ {
			n := uint64(1)
			if candidate := w < 3; candidate != (tick < 110) { // then the other one
				n = 0
			}
			if s.Heard(w, said(id, tick, tick, []uint64{uint64(tick), 50}, []uint64{uint64(tick), n}), far) && at.Outcome == analysis.Fail {
				t.Errorf("more is known when it has failed")
			}
		}
		r, _ := s.Result()
		if at.Outcome == "" && r.Outcome == analysis.Fail {
			at = r
		}
		if at.Outcome != "" && !reflect.DeepEqual(r, at) {
			t.Fatalf("%+v became %+v", at, r)
		}
	}
	if at.Evidence < at.Wanted || at.Measures[Errors].Candidate.Had < 2 {
		t.Fatalf("%+v", at)
	}
	next := restored(t, s)
	if r, _ := next.Result(); r.Outcome != analysis.Fail || r.Measures[Errors] != at.Measures[Errors] || r.Evidence != at.Evidence {
		t.Errorf("%+v became %+v", at, r)
	}
	next.Begin(settings, interval1(0.5), far)
	if r, _ := next.Result(); r.Outcome != analysis.Fail {
		t.Errorf("%+v", r)
	}
}
