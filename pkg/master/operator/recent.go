package operator

import (
	"maps"
	"time"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/pkg/master/recent"
)

// lately is what was answered in the last hour. It belongs to the loop.
type lately struct {
	service     recent.Hour
	generations map[uint64]*recent.Hour
}

// Sample has what was counted by now become a point of the last hour. It is called each
// recent.Step.
func (b *Backend) Sample() {
	now := time.Now()
	b.lately.service.Add(now, b.Counters.Requests())
	all := b.Counters.RequestsOf()
	maps.DeleteFunc(b.lately.generations, func(g uint64, _ *recent.Hour) bool { _, there := all[g]; return !there })
	for g, sum := range all {
		if b.lately.generations[g] == nil {
			b.lately.generations[g] = &recent.Hour{}
		}
		b.lately.generations[g].Add(now, sum)
	}
}

// Recent are the points of the last hour that are later than a moment. It may be called from any
// goroutine but the loop's.
func (b *Backend) Recent(since time.Time) (points []recent.Point) {
	b.Loop.Call(func() { points = b.lately.service.Since(since) })
	return points
}

// recentOf is the newest point of a generation; nil: it has none that is new.
func (b *Backend) recentOf(generation uint64) *api.Recent {
	h := b.lately.generations[generation]
	if h == nil {
		return nil
	}
	points := h.Since(time.Now().Add(-2 * recent.Step))
	if len(points) == 0 {
		return nil
	}
	p := points[len(points)-1]
	return &api.Recent{Requests: p.Requests, P50MS: p.P50, P99MS: p.P99}
}
