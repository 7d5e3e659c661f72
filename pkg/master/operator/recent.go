package operator

import (
	"time"

	"github.com/masterd/masterd/pkg/master/recent"
)

// Sample has what the service has counted by now become a point of the last hour. It is called
// each recent.Step.
func (b *Backend) Sample() { b.recent.Add(time.Now(), b.Counters.Requests()) }

// Recent are the points of the last hour that are later than a moment. It may be called from any
// goroutine but the loop's.
func (b *Backend) Recent(since time.Time) (points []recent.Point) {
	b.Loop.Call(func() { points = b.recent.Since(since) })
	return points
}
