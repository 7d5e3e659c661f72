package compare

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/masterd/masterd/pkg/ipc"
	"github.com/masterd/masterd/pkg/master/counters"
)

// route is one with so many requests of each time.
func route(of map[time.Duration]uint64) *counters.Route {
	r := &counters.Route{}
	for took, n := range of {
		r.Latency[ipc.LatencyBucket(uint64(took))] += n
	}
	return r
}

func TestWhatIsSlow(t *testing.T) {
	const ms = time.Millisecond
	for name, x := range map[string]struct {
		of      map[time.Duration]uint64
		by      float64
		atLeast time.Duration
		want    time.Duration // of what 99 % take, and what is slow by it; zero: nothing is
	}{
		"one in a hundred":      {map[time.Duration]uint64{10 * ms: 990, 300 * ms: 10}, 0.5, 20 * ms, 30 * ms},
		"two in a hundred":      {map[time.Duration]uint64{10 * ms: 980, 300 * ms: 20}, 0.5, 20 * ms, 450 * ms},
		"by a time":             {map[time.Duration]uint64{ms: 1000}, 0.5, 20 * ms, 21 * ms},
		"by a share":            {map[time.Duration]uint64{ms: 1000}, 9, ms, 10 * ms},
		"too few":               {map[time.Duration]uint64{ms: fewRequests - 1}, 0.5, ms, 0},
		"longer than can be":    {map[time.Duration]uint64{time.Hour: 1000}, 0.5, ms, 0},
		"shorter than is known": {map[time.Duration]uint64{1: 1000}, 0.5, 20 * ms, 20 * ms},
		"as many as there are":  {map[time.Duration]uint64{ms: math.MaxUint64, 2 * ms: math.MaxUint64}, 0.5, ms, 3 * ms},
	} {
		got := Slow(Routes{{Listener: "http", Route: "/"}: route(x.of)}, x.by, x.atLeast)
		if x.want == 0 {
			if len(got) != 0 {
				t.Errorf("%s: %v", name, got)
			}
			continue
		}
		if len(got) != 1 || got[0].Listener != "http" || got[0].Route != "/" {
			t.Fatalf("%s: %v", name, got)
		}
		if is := time.Duration(got[0].NS); is < x.want || float64(is) > 1.1*float64(x.want) { // a bucket is 9 % wide
			t.Errorf("%s: slow is %v, want %v", name, is, x.want)
		}
	}
}

func TestSlowRoutesAreBounded(t *testing.T) {
	all := Routes{}
	for i := range 2 * ipc.MaxSlowRoutes {
		n := uint64(fewRequests + i/2)
		all[counters.RouteKey{Listener: "http", Route: fmt.Sprint(i)}] = route(map[time.Duration]uint64{time.Millisecond: n})
	}
	first := Slow(all, 0.5, 0)
	if len(first) != ipc.MaxSlowRoutes || first[0].Route != "126" || first[len(first)-1].Route != "65" {
		t.Errorf("%d from %s to %s", len(first), first[0].Route, first[len(first)-1].Route)
	}
}
