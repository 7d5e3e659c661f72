// Package counters has what the service has counted: the sum over all workers that it has had,
// which no reload, death of a worker or change of the master takes anything from.
//
// A worker says each of its numbers whole, since its own start. A [Set] adds what has grown since
// it last heard the worker, so a message that is lost or comes twice changes nothing. What a
// worker says is hostile: numbers that fall add nothing, names are bounded in length and number.
package counters

import "github.com/masterd/masterd/pkg/ipc"

// Snapshot is all that is known at one moment. Nothing in it is shared.
type Snapshot struct {
	Service     Totals            // since the service began
	Generations map[uint64]Totals // those that there are, by number
	Workers     map[uint64]Worker // those that live and have been heard, by number
	Rollouts    map[Outcome]uint64
	Stages      map[string]Duration // by stage: how long rollouts were in it
	Restarts    uint64              // workers that were started in the place of one that ended unasked
}

// Totals are sums over workers.
type Totals struct {
	Routes     map[RouteKey]*Route
	Measures   map[string]*Measure
	Accepted   map[string]uint64 // connections, by listener
	HandedOver uint64            // connections that moved to another worker and stayed open
	Cut        uint64            // connections closed at the end of a drain
	Lost       uint64            // connections that were open in a worker that died
	Refused    uint64            // connections over a bound of the program's
	SlowBodies uint64            // requests over a bound of the program's
}

// RouteKey names a route.
type RouteKey struct{ Listener, Route string }

// Route is what was counted of one route; see [ipc.RouteCounts].
type Route struct {
	Status            [5]uint64
	BytesIn, BytesOut uint64
	NS                uint64
	Latency           [ipc.LatencyBuckets]uint64
}

// Measure is one of the program's own; see [ipc.MeasureCounts].
type Measure struct {
	Total    uint64
	Observed uint64
	Sum      float64
}

// Worker is what one worker said of the moment of its last beat.
type Worker struct {
	Generation  uint64
	Listeners   []ipc.ListenerCounts // in flight and open; by the SDK
	Go          *ipc.GoCounts        // nil: it is not a Go program, or has an older SDK
	MaxInFlight int
	// LongestPauseNS is the longest of Go's pauses within the last minute of beats, or two: who
	// looks every fifteen seconds would seldom see that of one beat.
	LongestPauseNS uint64
	Goroutines     int                // zero: it has not said
	Last           map[string]float64 // of measures that are observed, the last value
}

// Outcome is how something ended that the history has: what it was ("reload", "rollback", …) and
// how ("done", "failed", …).
type Outcome struct{ What, Outcome string }

// Duration is how often something was, and how long in all.
type Duration struct {
	Count   uint64
	Seconds float64
}
