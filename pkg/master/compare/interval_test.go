package compare

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/masterd/masterd/pkg/ipc"
	"github.com/masterd/masterd/pkg/master/analysis"
)

// told is one message of a table.
type told struct {
	worker        uint64
	from, through int64
}

// Each worker draws the number of the tick above 99 in each; what counts is told by the sum.
func TestTicksAreLeftOutForAll(t *testing.T) {
	for name, x := range map[string]struct {
		told []told
		want uint64 // of the sum of ticks
	}{
		"one was told late":        {[]told{{1, 100, 103}, {2, 103, 103}, {3, 100, 103}, {4, 100, 103}}, 4},
		"the first one":            {[]told{{1, 103, 103}, {2, 100, 103}, {3, 100, 103}, {4, 100, 103}}, 4},
		"two of them":              {[]told{{1, 102, 104}, {2, 100, 104}, {3, 103, 104}, {4, 100, 104}}, 9},
		"a hole":                   {[]told{{1, 100, 100}, {1, 102, 102}, {2, 100, 102}, {3, 100, 102}, {4, 100, 102}}, 4},
		"what was lost comes":      {[]told{{1, 100, 100}, {1, 100, 102}, {2, 100, 102}, {3, 100, 102}, {4, 100, 102}}, 6},
		"it says it has none":      {[]told{{1, 102, 101}, {1, 102, 102}, {2, 100, 102}, {3, 100, 102}, {4, 100, 102}}, 3},
		"one goes back":            {[]told{{1, 102, 102}, {1, 100, 102}, {2, 100, 102}, {3, 100, 102}, {4, 100, 102}}, 3},
		"one says nothing":         {[]told{{1, 100, 102}, {2, 100, 102}, {3, 100, 102}}, 0},
		"none can tell the middle": {[]told{{1, 100, 100}, {1, 103, 103}, {2, 102, 103}, {3, 100, 103}, {4, 100, 103}}, 4},
		"32 are pending": {[]told{{1, 100, 131}, {2, 100, 131}, {3, 100, 131}, {4, 100, 131}},
			32 * 33 / 2},
		"one lags by 32": {[]told{{1, 100, 131}, {2, 100, 131}, {3, 100, 131}, {1, 101, 132}, {4, 100, 131}},
			32*33/2 - 1},
		"one lags by more": {[]told{{1, 100, 131}, {2, 100, 131}, {3, 100, 131}, {1, 120, 151}, {4, 100, 131}},
			21 + 22 + 23 + 24 + 25 + 26 + 27 + 28 + 29 + 30 + 31 + 32},
		"the one that lags is the last to tell, and is ahead": {[]told{{1, 100, 131}, {2, 100, 131}, {3, 100, 131}, {4, 101, 132}},
			32*33/2 - 1},
		"far ahead": {[]told{{1, 100, 110}, {2, 100, 110}, {3, 100, 110}, {1, 500, 531}, {4, 100, 110},
			{2, 500, 531}, {3, 500, 531}, {4, 531, 531}}, 432},
		"more than a message may tell": {[]told{{1, 0, 150}, {2, 0, 150}, {3, 0, 150}, {4, 0, 150}}, (20 + 51) * 32 / 2},
	} {
		s, id := begun()
		for _, m := range x.told {
			var drawn []uint64
			for n := max(m.from, m.through-31); n <= m.through; n++ {
				drawn = append(drawn, uint64(n), uint64(n-99))
			}
			s.Heard(m.worker, said(id, m.from, m.through, drawn, nil), far)
		}
		if c, b := both(t, s); c != (Side{Drawn: 2 * x.want}) || b != c {
			t.Errorf("%s: %+v and %+v, want %d", name, c, b, 2*x.want)
		}
	}
}

// What a worker says is bounded, and breaks nothing.
func TestHostileNumbers(t *testing.T) {
	const huge = math.MaxUint64
	var many []uint64
	for range 40 {
		many = append(many, 100, 2)
	}
	for name, x := range map[string]struct {
		drawn, failed []uint64
		want          Side
	}{
		"of other ticks":         {[]uint64{99, 5, 102, 5, 0, 5, huge, 5, 1 << 63, 5, 100, 1}, []uint64{99, 5, 102, 5}, Side{1, 0}},
		"not in their order":     {[]uint64{101, 2, 100, 3}, []uint64{101, 1, 100, 1}, Side{5, 2}},
		"twice":                  {[]uint64{100, 2, 100, 3, 100, 1}, []uint64{100, 1, 100, 1}, Side{3, 1}},
		"half a pair":            {[]uint64{100, 2, 101}, []uint64{100}, Side{2, 0}},
		"huge":                   {[]uint64{100, huge, 101, huge}, []uint64{101, huge}, Side{2 * maxInTick, maxInTick}},
		"errors of nobody":       {nil, []uint64{100, 4}, Side{4, 4}},
		"more errors than drawn": {[]uint64{100, 3, 101, 1}, []uint64{101, 6}, Side{6, 6}},
		"too many pairs":         {append(many, 101, 9), nil, Side{2, 0}},
	} {
		for _, ends := range [][2]int64{{100, 101}, {math.MinInt64, 101}, {-5, 101}} {
			s, id := begun()
			s.Heard(1, said(id, ends[0], ends[1], x.drawn, x.failed), far)
			for _, w := range []uint64{2, 3, 4} {
				s.Heard(w, said(id, 100, 101, nil, nil), far)
			}
			if c, _ := both(t, s); c != x.want {
				t.Errorf("%s from %d: %+v, want %+v", name, ends[0], c, x.want)
			}
		}
	}
	for _, ends := range [][2]int64{{math.MaxInt64, math.MaxInt64}, {math.MinInt64, math.MinInt64}, {math.MaxInt64, math.MinInt64},
		{0, math.MaxInt64}, {math.MinInt64, math.MaxInt64}, {105, 104}} {
		s, id := begun()
		s.Heard(1, said(id, ends[0], ends[1], []uint64{100, 1}, nil), 101*time.Second)
		for w := uint64(1); w <= 4; w++ {
			s.Heard(w, said(id, 101, 140, []uint64{110, 1}, nil), far)
		}
		if c, _ := both(t, s); c != (Side{2, 0}) && ends[1] != math.MaxInt64 && ends[0] != 105 {
			t.Errorf("%v: %+v", ends, c)
		}
	}
}

// A worker that speaks of the future is not believed: its ticks are taken as they pass.
func TestTheFutureIsNotHeard(t *testing.T) {
	s, id := begun()
	for w := uint64(1); w <= 4; w++ {
		s.Heard(w, said(id, 100, 103, []uint64{100, 1, 101, 1, 102, 1, 103, 1}, nil), 102*time.Second+1)
	}
	wantSides(t, s, Side{4, 0}, Side{4, 0})
	for w := uint64(1); w <= 4; w++ {
		s.Heard(w, said(id, 100, 103, []uint64{102, 5, 103, 5}, nil), 103*time.Second)
	}
	wantSides(t, s, Side{14, 0}, Side{14, 0})
	// One that says it is ahead for ever keeps nobody's later ticks from being told.
	s.Heard(1, said(id, math.MaxInt64, math.MaxInt64, nil, nil), 105*time.Second)
	for w := uint64(1); w <= 4; w++ {
		s.Heard(w, said(id, 103, 106, []uint64{104, 7, 105, 7}, nil), 107*time.Second)
	}
	wantSides(t, s, Side{28, 0}, Side{28, 0})
}

// A connection that has an error was drawn, be it in a tick that was left out.
func TestDrawnInATickThatWasLeftOut(t *testing.T) {
	s, id := begun()
	s.Heard(1, said(id, 100, 101, []uint64{100, 9, 101, 1}, []uint64{101, 4}), far)
	s.Heard(2, said(id, 101, 101, nil, []uint64{101, 2}), far)
	s.Heard(3, said(id, 100, 101, []uint64{100, 50, 101, 50}, []uint64{101, 40}), far)
	s.Heard(4, said(id, 100, 101, nil, nil), far)
	wantSides(t, s, Side{6, 6}, Side{50, 40})
	for w := uint64(1); w <= 4; w++ { // it is not counted a second time
		s.Heard(w, said(id, 102, 102, []uint64{102, 1}, []uint64{102, 1}), far)
	}
	wantSides(t, s, Side{8, 8}, Side{52, 42})
}

func TestMissing(t *testing.T) {
	s, id := begun()
	missing := func(want ...uint64) {
		t.Helper()
		if r, _ := s.Result(); !slices.Equal(r.Missing, want) {
			t.Errorf("%v are missing, want %v", r.Missing, want)
		}
	}
	at := func(tick int64, workers ...uint64) {
		for _, w := range workers {
			s.Heard(w, said(id, 100, tick-1, nil, nil), time.Duration(tick)*time.Second)
		}
	}
	missing()
	s.Heard(9, nil, 105*time.Second)
	missing()
	s.Heard(9, nil, 106*time.Second) // nobody has told anything
	missing(1, 2, 3, 4)
	at(104, 1, 2)
	missing(3, 4)
	at(106, 3, 4)
	missing()
	at(109, 1, 3)
	missing()
	at(110, 1, 3)
	missing(2)
	at(110, 2)
	missing()
	s.Heard(4, said(id, math.MaxInt64, math.MaxInt64, nil, nil), 112*time.Second) // tells none
	at(112, 1, 2, 3)
	missing(4)
	// None is missing because another one lies.
	s.Heard(1, said(id, 0, math.MaxInt64, nil, nil), 112*time.Second)
	missing(4)
	s.End()
	missing()
}

// However reports come, in whatever order and however many are lost, what counts are the ticks
// that reached the master from all of them.
func TestReportsInAnyOrder(t *testing.T) {
	for seed := range uint64(300) {
		random := rand.New(rand.NewPCG(seed, 1))
		s, id := begun()
		const ticks = ipc.MaxCompareTicks
		truth := map[uint64]*[ticks]Side{}
		heard, from := map[uint64]*[ticks]bool{}, map[uint64]int64{}
		for w := uint64(1); w <= 4; w++ {
			truth[w], heard[w], from[w] = new([ticks]Side), new([ticks]bool), 0
			for i := range truth[w] {
				drawn := random.Uint64N(50)
				truth[w][i] = Side{drawn, random.Uint64N(drawn/8 + 1)}
			}
		}
		for now := int64(1); now <= ticks; now++ {
			for range 4 {
				w := random.Uint64N(4) + 1
				if random.IntN(40) == 0 { // it has begun anew
					from[w] = now - 1
				}
				var drawn, failed []uint64
				for i := from[w]; i < now; i++ {
					heard[w][i] = true
					drawn = append(drawn, uint64(100+i), truth[w][i].Drawn)
					failed = append(failed, uint64(100+i), truth[w][i].Had)
				}
				s.Heard(w, said(id, 100+from[w], 99+now, drawn, failed), time.Duration(100+now)*time.Second)
			}
		}
		var want [2]Side
		sum := map[uint64]Side{}
		for i := range ticks {
			all := true
			for w := range truth {
				all = all && heard[w][i]
			}
			for w, of := range truth {
				if all {
					was := sum[w]
					is := Side{was.Drawn + of[i].Drawn, was.Had + of[i].Had}
					is.Drawn = max(is.Drawn, is.Had)
					sum[w] = is
				}
			}
		}
		for w, n := range sum {
			of := &want[(w-1)/2]
			of.Drawn += n.Drawn
			of.Had += n.Had
		}
		r, _ := s.Result()
		if r.Outcome == analysis.Fail {
			continue // what came later is not counted
		}
		if r.Measures[Errors].Candidate != want[0] || r.Measures[Errors].Stable != want[1] {
			t.Fatalf("seed %d: %+v and %+v, want %+v", seed, r.Measures[Errors].Candidate, r.Measures[Errors].Stable, want)
		}
	}
}
