package compare

import (
	"cmp"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/masterd/masterd/pkg/ipc"
	"github.com/masterd/masterd/pkg/master/counters"
)

// fewRequests are too few to say what 99 % of them take.
const fewRequests = 100

// Routes are those that requests were counted of.
type Routes = map[counters.RouteKey]*counters.Route

// Slow says from when on requests are slow: when they take longer than 99 % of those that the
// stable version has answered on the same route, by a share of that and by a time. Routes
// with too few requests are left out, and where there are too many routes those with the fewest.
// What earlier versions have answered is no help: those that were too slow are among them.
func Slow(stable Routes, by float64, atLeast time.Duration) (all []ipc.SlowRoute) {
	requests := make(map[counters.RouteKey]uint64, len(stable))
	for k, r := range stable {
		if n := answered(r); n >= fewRequests {
			requests[k] = n
		}
	}
	keys := slices.SortedFunc(maps.Keys(requests), func(a, b counters.RouteKey) int {
		return cmp.Or(cmp.Compare(requests[b], requests[a]),
			strings.Compare(a.Listener, b.Listener), strings.Compare(a.Route, b.Route))
	})
	for _, k := range keys[:min(len(keys), ipc.MaxSlowRoutes)] {
		longest := most(&stable[k].Latency, requests[k])
		if math.IsInf(longest, 0) {
			continue
		}
		slow := max(longest*(1+by), longest+atLeast.Seconds())
		all = append(all, ipc.SlowRoute{Listener: k.Listener, Route: k.Route, NS: uint64(slow * float64(time.Second))})
	}
	return all
}

// answered is how many requests of a route have a latency.
func answered(r *counters.Route) (n uint64) {
	for _, in := range r.Latency {
		add(&n, in)
	}
	return n
}

// most is what 99 % of so many requests take at the longest, in seconds, to the bound of a bucket.
func most(latency *[ipc.LatencyBuckets]uint64, n uint64) float64 {
	slowest := uint64(0)
	for i := len(latency) - 1; i > 0; i-- {
		if add(&slowest, latency[i]); slowest > n/100 {
			return ipc.LatencyBound(i)
		}
	}
	return ipc.LatencyBound(0)
}
