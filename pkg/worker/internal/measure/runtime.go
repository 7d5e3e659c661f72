package measure

import (
	"runtime/debug"
	"runtime/metrics"
	"time"

	"github.com/masterd/masterd/pkg/ipc"
)

// maxPauses is of how many collections debug.ReadGCStats knows the pauses. It needs room for
// twice as many, and three numbers more, to allocate nothing.
const maxPauses = 256

// goRuntime reads what Go's runtime counts. The zero value is ready.
type goRuntime struct {
	heap  [1]metrics.Sample
	stats debug.GCStats
	seen  int64 // collections
}

// counts are of this moment; the longest pause is since the call before.
func (g *goRuntime) counts() *ipc.GoCounts {
	if g.stats.Pause == nil {
		g.stats.Pause = make([]time.Duration, 0, 2*maxPauses+3)
		g.heap[0].Name = "/memory/classes/heap/objects:bytes"
	}
	metrics.Read(g.heap[:])
	debug.ReadGCStats(&g.stats)
	c := &ipc.GoCounts{GCs: uint64(g.stats.NumGC), PauseNS: uint64(g.stats.PauseTotal)}
	if v := g.heap[0].Value; v.Kind() == metrics.KindUint64 {
		c.Heap = v.Uint64()
	}
	fresh := min(g.stats.NumGC-g.seen, int64(len(g.stats.Pause))) // the latest come first
	for _, p := range g.stats.Pause[:fresh] {
		c.PauseMaxNS = max(c.PauseMaxNS, uint64(p))
	}
	g.seen = g.stats.NumGC
	return c
}
