package master

import (
	"math"
	"time"

	"go.uber.org/zap"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/pkg/master/proc"
	"github.com/masterd/masterd/pkg/master/rollout"
)

// lastWords bounds the wait for what a worker said just before it ended.
const lastWords = 100 * time.Millisecond

// stopWorker ends a worker that had its time.
func (m *Master) stopWorker(id rollout.Worker, kill bool, why string) {
	if w := m.workers[id]; w != nil {
		w.stopped = true
	}
	m.signalWorker(id, kill, why)
}

// took says what a worker that is gone took with it. One that said goodbye has
// counted it; of one that could not (killed, crashed, cut off from us) the last
// beat is all that there is. One that left by itself and ended well had nothing
// open.
func (w *worker) took(exit proc.Exit) rollout.Cut {
	if w.session == nil {
		return rollout.Cut{Unknown: true}
	}
	c := w.cutSoFar()
	forced := w.stopped || exit.Signal != 0 || exit.Code != 0
	if s := w.stats; forced && !w.goodbye && (s.Open > 0 || s.InFlight > 0) {
		c.Connections += uint64(max(s.Open, 0))
		c.Requests += uint64(max(s.InFlight, 0))
		c.Longest = max(c.Longest, milliseconds(s.LongestMS))
		c.LastBeat = true
	}
	return c
}

// cutSoFar is what the worker itself has counted.
func (w *worker) cutSoFar() rollout.Cut {
	s := w.stats
	return rollout.Cut{Connections: s.Cut, Requests: s.CutRequests, Longest: milliseconds(s.CutLongestMS), Median: milliseconds(s.CutMedianMS)}
}

// milliseconds takes a worker's word for a time, within what a time can be.
func milliseconds(n int64) time.Duration {
	return time.Duration(min(max(n, 0), math.MaxInt64/int64(time.Millisecond))) * time.Millisecond
}

// describeCut is the form of it that people and programs read.
func describeCut(c rollout.Cut) *api.Cut {
	if c == (rollout.Cut{}) {
		return nil
	}
	return &api.Cut{
		Connections: c.Connections, Requests: c.Requests, LongestMS: c.Longest.Milliseconds(), MedianMS: c.Median.Milliseconds(),
		LastBeat: c.LastBeat, Unknown: c.Unknown,
	}
}

// cutFields name in the log what an entry of the history says was cut.
func cutFields(e api.Entry) []zap.Field {
	if e.Cut == nil {
		return nil
	}
	f := []zap.Field{zap.Uint64("worker", e.Worker)}
	if e.Cut.Unknown {
		return append(f, zap.Bool("cut_unknown", true))
	}
	f = append(f, zap.Uint64("cut_connections", e.Cut.Connections), zap.Uint64("cut_requests", e.Cut.Requests),
		zap.Int64("cut_longest_ms", e.Cut.LongestMS), zap.Int64("cut_median_ms", e.Cut.MedianMS))
	if e.Cut.LastBeat {
		f = append(f, zap.Bool("as_of_last_beat", true))
	}
	return f
}
