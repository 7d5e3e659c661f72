package recent

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/masterd/masterd/pkg/ipc"
	"github.com/masterd/masterd/pkg/master/counters"
)

var begin = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// answered adds requests that took so long.
func answered(r *counters.Route, class int, n uint64, took time.Duration) {
	r.Status[class] += n
	r.Latency[ipc.LatencyBucket(uint64(took))] += n
}

func TestPointsAreDifferences(t *testing.T) {
	var h Hour
	var sum counters.Route
	answered(&sum, 1, 1_000_000, time.Millisecond) // by masters before: in no point
	h.Add(begin, sum)
	if got := h.Since(time.Time{}); len(got) != 0 {
		t.Errorf("before the first step is over there is %+v", got)
	}
	answered(&sum, 1, 98, 4*time.Millisecond)
	answered(&sum, 4, 2, 300*time.Millisecond)
	h.Add(begin.Add(Step), sum)
	h.Add(begin.Add(2*Step), sum)
	got := h.Since(time.Time{})
	if len(got) != 2 || got[0].Requests != [5]uint64{1: 98, 4: 2} || !got[0].At.Equal(begin.Add(Step)) {
		t.Fatalf("the points are %+v", got)
	}
	if p := got[0]; p.P50 < 3.8 || p.P50 > 4.2 || p.P99 < 285 || p.P99 > 315 {
		t.Errorf("4 ms and 300 ms are shown as %v and %v", p.P50, p.P99)
	}
	if p := got[1]; p.Requests != [5]uint64{} || p.P50 != 0 || p.P99 != 0 {
		t.Errorf("nothing is shown as %+v", p)
	}
	if got := h.Since(begin.Add(Step)); len(got) != 1 || !got[0].At.Equal(begin.Add(2*Step)) {
		t.Errorf("after the first point there is %+v", got)
	}
}

func TestNothingIsNegative(t *testing.T) {
	var h Hour
	var sum counters.Route
	answered(&sum, 1, 100, time.Millisecond)
	h.Add(begin, sum)
	h.Add(begin.Add(Step), counters.Route{})
	if got := h.Since(time.Time{}); len(got) != 1 || got[0].Requests != [5]uint64{} || got[0].P99 != 0 {
		t.Errorf("sums that fell are shown as %+v", got)
	}
}

// A master that was stopped or asleep, or whose clock was set, leaves a gap, and no peak beside it.
func TestGap(t *testing.T) {
	for _, away := range []time.Duration{latest + 1, time.Hour, -time.Minute, -48 * time.Hour} {
		var h Hour
		var sum counters.Route
		h.Add(begin, sum)
		h.Add(begin.Add(Step), sum)
		answered(&sum, 1, 5000, time.Millisecond)
		back := begin.Add(Step + away)
		h.Add(back, sum)
		answered(&sum, 1, 7, time.Millisecond)
		h.Add(back.Add(Step), sum)
		var n uint64
		got := h.Since(time.Time{})
		for _, p := range got {
			n += p.Requests[1]
		}
		if len(got) > 2 || n != 7 {
			t.Errorf("%s away is shown as %+v", away, got)
		}
	}
}

// A look that comes too early leaves what it saw to the next point.
func TestEarlyLook(t *testing.T) {
	var h Hour
	var sum counters.Route
	h.Add(begin, sum)
	answered(&sum, 1, 3, time.Millisecond)
	h.Add(begin.Add(time.Second), sum)
	h.Add(begin.Add(Step), sum)
	if got := h.Since(time.Time{}); len(got) != 1 || got[0].Requests[1] != 3 {
		t.Errorf("it is shown as %+v", got)
	}
}

func TestAnHourAndNoMore(t *testing.T) {
	var h Hour
	for i := range 5 * Points {
		h.Add(begin.Add(time.Duration(i)*Step), counters.Route{Status: [5]uint64{1: uint64(i)}})
		if got := h.Since(time.Time{}); len(got) != min(i, Points) || cap(h.points) > 4*Points {
			t.Fatalf("after %d steps there are %d points, and room for %d", i, len(got), cap(h.points))
		}
	}
	h.Add(begin.Add(10*Points*Step), counters.Route{})
	if got := h.Since(time.Time{}); len(got) != 0 {
		t.Errorf("after hours away there are %d points of before", len(got))
	}
}

// The quantiles are those of the values themselves, to within a bucket.
func TestQuantiles(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		var latency [ipc.LatencyBuckets]uint64
		values := make([]float64, 1+r.IntN(3000))
		for i := range values {
			ns := uint64(20_000 * (1 + r.ExpFloat64()*float64(1+r.IntN(1000))))
			values[i] = float64(ns) / 1e6
			latency[ipc.LatencyBucket(ns)]++
		}
		slices.Sort(values)
		for _, q := range []float64{0.5, 0.99} {
			want := values[int(q*float64(len(values))+0.999999)-1]
			if got := quantile(&latency, q); got < want/1.05 || got > want*1.05 {
				t.Errorf("of %d values the quantile %v is %v, not %v", len(values), q, want, got)
			}
		}
	}
	ends := [ipc.LatencyBuckets]uint64{0: 1}
	if got := quantile(&ends, 0.5); got <= 0 || got > 0.01 {
		t.Errorf("the shortest are shown as %v ms", got)
	}
	ends = [ipc.LatencyBuckets]uint64{ipc.LatencyBuckets - 1: 1}
	if got := quantile(&ends, 0.5); got != 128_000 {
		t.Errorf("the longest are shown as %v ms", got)
	}
}
