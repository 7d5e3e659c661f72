package compare

import (
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/masterd/masterd/pkg/ipc"
	"github.com/masterd/masterd/pkg/master/analysis"
)

// several are settings with all kinds of measures.
var several = Settings{Alpha: 0.01, Unchanged: true, Measures: []Measure{
	{Name: NameErrors, Ratio: 1.5, Acts: true}, {Name: NameLatency, Ratio: 1.5},
	{Name: "orders", Ratio: 1.2, Acts: true}, {Name: "carts", Ratio: 2}}}

// ofSeveral is begun with them.
func ofSeveral(slow ...ipc.SlowRoute) (*Set, ipc.Compare) {
	s := New()
	in := interval1(0.1)
	in.Slow = slow
	return s, s.Begin(several, in, 99*time.Second)
}

var slowRoute = ipc.SlowRoute{Listener: "http", Route: "/", NS: 1}

// tell has all four workers say that of so many connections each one had each thing.
func tell(s *Set, id uint64, tick int64, drawn uint64, failed uint64, others ...uint64) {
	for w := uint64(1); w <= 4; w++ {
		c := said(id, tick, tick, []uint64{uint64(tick), drawn}, []uint64{uint64(tick), failed})
		for _, n := range others {
			c.Others = append(c.Others, []uint64{uint64(tick), n})
		}
		s.Heard(w, c, far)
	}
}

// had are what the candidate's workers were counted with, of each measure.
func had(t *testing.T, s *Set, want ...Side) {
	t.Helper()
	r, _ := s.Result()
	var got []Side
	for _, m := range r.Measures {
		got = append(got, m.Candidate)
		if m.Candidate != m.Stable {
			t.Errorf("%+v", m)
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
}

func TestEachMeasureIsCounted(t *testing.T) {
	s, c := ofSeveral(slowRoute)
	if !reflect.DeepEqual(c.Slow, []ipc.SlowRoute{slowRoute}) || !slices.Equal(c.Measures, []string{"orders", "carts"}) {
		t.Errorf("workers are told %+v", c)
	}
	tell(s, c.ID, 100, 10, 1, 2, 3, 4, 99)
	had(t, s, Side{20, 2}, Side{20, 4}, Side{20, 6}, Side{20, 8})
	// One that had it in a tick that counts and was drawn before it was drawn, for this measure.
	tell(s, c.ID, 101, 0, 19, 0, 0, 0)
	had(t, s, Side{40, 40}, Side{20, 4}, Side{20, 6}, Side{20, 8})
	next := restored(t, s)
	if r, _ := next.Result(); !reflect.DeepEqual(r.Settings, several) || !reflect.DeepEqual(next.rollout, s.rollout) {
		t.Errorf("%+v became %+v", s.rollout, next.rollout)
	}
	for old, by := range map[string]string{`"name":"orders"`: `"name":"a-b"`, `"name":"carts"`: `"name":""`, `"name":"latency"`: `"name":"x"`,
		`"others":[`: `"others":[{"name":"latency","ratio":1},`, `"ratio":1.2`: `"ratio":-1.2`} {
		text := strings.Replace(string(s.Saved()), old, by, 1)
		if err := New().Restore([]byte(text)); err == nil {
			t.Errorf("it is restored with %s", by)
		}
	}
}

// Without a word of what is slow, latency is not compared, and no such connection counts as one
// that was not slow.
func TestLatencyIsNotComparedEverywhere(t *testing.T) {
	s, c := ofSeveral()
	tell(s, c.ID, 100, 10, 0, 1, 0, 0)
	had(t, s, Side{20, 0}, Side{}, Side{20, 0}, Side{20, 0})
	in := interval1(0.1)
	in.Slow = []ipc.SlowRoute{slowRoute}
	tell(s, s.Begin(several, in, 100*time.Second).ID, 101, 10, 0, 1, 0, 0)
	had(t, s, Side{40, 0}, Side{20, 2}, Side{40, 0}, Side{40, 0})
	// The first that is known holds for the rest of the rollout.
	in.Slow = []ipc.SlowRoute{{Listener: "http", Route: "/", NS: 9}}
	if c := s.Begin(several, in, 101*time.Second); c.Slow[0] != slowRoute {
		t.Errorf("slow is now %+v", c.Slow)
	}
	in.Rollout++
	if c := s.Begin(several, in, 102*time.Second); c.Slow[0].NS != 9 {
		t.Errorf("slow in the next rollout is %+v", c.Slow)
	}
}

// A worker whose SDK counts errors alone has nothing else compared.
func TestAnOlderSDKCountsErrorsAlone(t *testing.T) {
	s, c := ofSeveral(slowRoute)
	tell(s, c.ID, 100, 10, 1, 1, 1, 1)
	s.Heard(3, said(c.ID, 101, 101, []uint64{101, 10}, []uint64{101, 1}), far)
	tell(s, c.ID, 101, 10, 1, 1, 1, 1)
	had(t, s, Side{40, 4}, Side{20, 2}, Side{20, 2}, Side{20, 2})
	if r, _ := s.Result(); r.ErrorsOnly != 3 || r.Cannot != 0 {
		t.Errorf("%+v", r)
	}
	s.Begin(several, interval1(0.1), far)
	if r, _ := s.Result(); r.ErrorsOnly != 0 {
		t.Errorf("in the next interval: %+v", r)
	}
}

// The outcome depends on those measures that act, and alpha is for them together.
func TestWhatActs(t *testing.T) {
	s, c := ofSeveral(slowRoute)
	candidate := func(tick int64, errs, slow, orders, carts uint64) Result {
		for w := uint64(1); w <= 4; w++ {
			m := said(c.ID, tick, tick, []uint64{uint64(tick), 50}, nil)
			m.Others = [][]uint64{nil, nil, nil}
			if w == 1 {
				m.Failed = []uint64{uint64(tick), errs}
				m.Others = [][]uint64{{uint64(tick), slow}, {uint64(tick), orders}, {uint64(tick), carts}}
			}
			s.Heard(w, m, far)
		}
		r, _ := s.Result()
		return r
	}
	r := candidate(100, 0, 50, 0, 50)
	if r.Outcome != analysis.Pass || r.Evidence != 1 || r.Measures[Latency].Evidence < r.Wanted || r.Measures[3].Evidence < r.Wanted {
		t.Errorf("by what does not act: %+v", r)
	}
	r.Outcome, r.Measures[Latency].Acts = analysis.Fail, true // of equal evidence the first is told
	const slower = "it is slower than generation 3: 50 of its 100 connections had a slow request, 0 of 100 there " +
		"(evidence 1.0, 100 is enough)"
	if why := r.Why(3); why != slower {
		t.Errorf("%s", why)
	}
	if r = candidate(101, 0, 0, 10, 0); r.Outcome != analysis.Fail || r.Evidence != (1+r.Measures[Own].Evidence)/2 {
		t.Errorf("by what does: %+v", r)
	}
	if why := r.Why(3); !strings.HasPrefix(why, "it has more orders than generation 3: they were counted on 10 of its 200 "+
		"connections, on 0 of 200 there (evidence ") {
		t.Errorf("%s", why)
	}
}

func TestMeasuresAreBounded(t *testing.T) {
	many := Settings{Alpha: 0.01, Measures: make([]Measure, 2*maxMeasures)}
	for i := range many.Measures {
		many.Measures[i] = Measure{Name: "m", Ratio: 1}
	}
	s := New()
	if c := s.Begin(many, interval1(0.1), far); len(c.Measures) != ipc.MaxCompared {
		t.Errorf("%d are told", len(c.Measures))
	}
	if r, _ := s.Result(); len(r.Measures) != maxMeasures {
		t.Errorf("%d are compared", len(r.Measures))
	}
}
