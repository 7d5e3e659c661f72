// Package recent has the last hour of a service's requests, in points of ten seconds, for those
// who look at it. It is made of what the counters have grown by, and begins anew with each master.
package recent

import (
	"math"
	"slices"
	"time"

	"github.com/masterd/masterd/pkg/ipc"
	"github.com/masterd/masterd/pkg/master/counters"
)

const (
	// Step is the time of one point.
	Step = 10 * time.Second
	// Points is how many there are at most: an hour of them.
	Points = 360
	// soonest and latest are the least and the most time from one look at the counters to the next
	// that makes a point: what grew in any other time would look like another rate.
	soonest = Step / 2
	latest  = Step + Step/2
)

// Point is what was answered in the Step before its time.
type Point struct {
	At       time.Time `json:"at"`
	Requests [5]uint64 `json:"requests"` // by the class of their status, as in [ipc.RouteCounts]
	P50      float64   `json:"p50_ms"`   // half of them took at most so long; zero: there were none
	P99      float64   `json:"p99_ms"`
}

// Hour is the last hour. It belongs to the master's loop, and its zero value is ready.
type Hour struct {
	points []Point // oldest first
	at     time.Time
	before counters.Route // as of at
}

// Add takes what the service has counted up to now, of all its routes. It makes a point of what has
// come since it was called last, unless that was too long ago: then there is a gap.
func (h *Hour) Add(now time.Time, total counters.Route) {
	passed := now.Sub(h.at)
	if !h.at.IsZero() && passed >= 0 && passed < soonest {
		return
	}
	if !h.at.IsZero() && passed > 0 && passed <= latest {
		h.keep(point(now, h.before, total))
	}
	h.at, h.before = now, total
}

// keep adds a point. The slice is moved only once in an hour.
func (h *Hour) keep(p Point) {
	if len(h.points) >= 2*Points {
		h.points = append(make([]Point, 0, 2*Points), h.points[len(h.points)-Points:]...)
	}
	h.points = append(h.points, p)
}

// Since are the points of the last hour that are later than a moment, oldest first. The caller may
// keep them.
func (h *Hour) Since(moment time.Time) []Point {
	all := h.points[max(0, len(h.points)-Points):]
	for i := len(all) - 1; i >= 0; i-- {
		if !all[i].At.After(moment) || h.at.Sub(all[i].At) >= Points*Step {
			return slices.Clone(all[i+1:])
		}
	}
	return slices.Clone(all)
}

// point is what came between two sums.
func point(at time.Time, before, after counters.Route) Point {
	p := Point{At: at.Round(0)}
	for i := range p.Requests {
		p.Requests[i] = grown(before.Status[i], after.Status[i])
	}
	var latency [ipc.LatencyBuckets]uint64
	for i := range latency {
		latency[i] = grown(before.Latency[i], after.Latency[i])
	}
	p.P50, p.P99 = quantile(&latency, 0.50), quantile(&latency, 0.99)
	return p
}

// grown is never negative, whatever a sum does.
func grown(before, after uint64) uint64 { return after - min(before, after) }

// quantile is the time in milliseconds that a share of the requests took at most, to within what a
// bucket knows of it: the middle of the bucket, by ratio. Zero: there were none.
func quantile(latency *[ipc.LatencyBuckets]uint64, q float64) float64 {
	all := uint64(0)
	for _, n := range latency {
		all += n
	}
	if all == 0 {
		return 0
	}
	left := uint64(math.Ceil(q * float64(all)))
	for i, n := range latency {
		if n < left {
			left -= n
			continue
		}
		switch i {
		case 0:
			return 1000 * ipc.LatencyBound(0)
		case ipc.LatencyBuckets - 1: // it has no upper bound
			return 1000 * ipc.LatencyBound(i-1)
		}
		return 1000 * math.Sqrt(ipc.LatencyBound(i-1)*ipc.LatencyBound(i))
	}
	return 0
}
