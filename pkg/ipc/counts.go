package ipc

import (
	"math"
	"math/bits"
)

// Limits of what a worker counts. They are part of the protocol: see PROTOCOL.md.
const (
	MaxRoutes    = 64       // of one listener; requests of others count as those of RouteOther
	MaxRouteName = 128      // bytes
	MaxMeasures  = 32       // that a program may count by names of its own
	MaxName      = 64       // bytes of such a name
	MaxCounts    = 48 << 10 // bytes of the counts in one message, as JSON
)

// RouteOther is the route of requests that have none, or that are one too many.
const RouteOther = "other"

// IsMeasure reports whether this can be the name of a measure of a program's own: letters of
// ASCII, digits and _, no digit first, at most MaxName bytes. It becomes a label of Prometheus'.
func IsMeasure(name string) bool {
	for i, c := range []byte(name) {
		letter := c == '_' || c|0x20 >= 'a' && c|0x20 <= 'z'
		if !letter && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return name != "" && len(name) <= MaxName
}

// Counts are what a worker has counted since it started. Each number but those that are said to
// be of this moment only grows, and a message says it whole: one that is lost, or comes twice,
// changes nothing. Routes and measures that have not changed since the same connection brought
// them may be left out, and what has no room comes with the next beat.
type Counts struct {
	Listeners   []ListenerCounts `json:"listeners,omitempty"` // all that are served
	Routes      []RouteCounts    `json:"routes,omitempty"`
	Measures    []MeasureCounts  `json:"measures,omitempty"`
	Go          *GoCounts        `json:"go,omitempty"`            // nil: it is not a Go program
	MaxInFlight int              `json:"max_in_flight,omitempty"` // requests that the program is made for at one time; zero: it has not said
	Compared    *Compared        `json:"compared,omitempty"`      // nil: no comparison is under way
}

// ListenerCounts are of one listener.
type ListenerCounts struct {
	Listener string `json:"listener"`
	InFlight int64  `json:"in_flight"` // of this moment
	Open     int64  `json:"open"`      // connections, of this moment
	Accepted uint64 `json:"accepted"`  // connections, without those that came from another worker
}

// RouteCounts are of the requests of one route of a listener that have their answer.
type RouteCounts struct {
	Listener string `json:"listener"`
	Route    string `json:"route"` // as the program's router names it, or RouteOther
	// Status are requests by the class of their status: 1xx, 2xx, 3xx, 4xx, 5xx. A handler that
	// panicked, or gave another status, counts with the last.
	Status   [5]uint64 `json:"status"`
	BytesIn  uint64    `json:"bytes_in,omitempty"`  // of the requests' bodies, as their Content-Length says
	BytesOut uint64    `json:"bytes_out,omitempty"` // of the answers' bodies
	NS       uint64    `json:"ns,omitempty"`        // nanoseconds that they took, all together
	// Latency are pairs of a bucket of [LatencyBucket] and its count, those that are not empty,
	// in the order of the buckets. Requests that became something else (101) have none.
	Latency []uint64 `json:"latency,omitempty"`
}

// MeasureCounts are of one measure of the program's own: counted or observed, not both.
type MeasureCounts struct {
	Name     string  `json:"name"`
	Total    uint64  `json:"total,omitempty"`    // counted
	Observed uint64  `json:"observed,omitempty"` // values that were observed
	Sum      float64 `json:"sum,omitempty"`      // of those; it may fall
	Last     float64 `json:"last,omitempty"`     // of those; of this moment
}

// GoCounts are of Go's runtime.
type GoCounts struct {
	Heap       uint64 `json:"heap"`         // bytes of objects, of this moment
	GCs        uint64 `json:"gcs"`          // collections
	PauseNS    uint64 `json:"pause_ns"`     // that they stopped the world for, all together
	PauseMaxNS uint64 `json:"pause_max_ns"` // the longest pause since the beat before; of this moment
}

// A latency's bucket is exponential with eight to each doubling, as Prometheus' native
// histograms of schema 3 have it (https://prometheus.io/docs/specs/native_histograms/): a value
// is known to within 4.5 %. Bucket 0 has all that is at most 2^latencyFrom seconds (7.6 µs), the
// last all above 2^latencyTo (128 s).
const (
	LatencySchema  = 3
	latencyFrom    = -17
	latencyTo      = 7
	perDoubling    = 1 << LatencySchema
	LatencyBuckets = (latencyTo-latencyFrom)*perDoubling + 2
)

// within are the bounds of the buckets of one doubling: 2^63 · 2^(i/8), rounded down.
var within = func() (b [perDoubling]uint64) {
	for i := range b {
		b[i] = uint64(math.Exp2(float64(i)/perDoubling) * (1 << 63))
	}
	return b
}()

// LatencyBucket is the bucket of a time in nanoseconds. It is called for each request: it
// allocates nothing and takes some nanoseconds.
func LatencyBucket(ns uint64) int {
	// In parts of 2^-43 s, so that doublings of seconds are those of bits. That is a tenth of a
	// picosecond: no nanosecond is that near to a bound that is none.
	const shift = 43
	hi, lo := bits.Mul64(min(ns, 1<<50), 1<<shift) // thirteen days are the last bucket's, too
	parts, _ := bits.Div64(hi, lo, 1e9)
	if parts == 0 {
		return 0
	}
	top := bits.Len64(parts) - 1 // 2^(top-34) s <= time
	mantissa := parts << (63 - top)
	i := (top-shift-latencyFrom)*perDoubling + 1
	for k := perDoubling - 1; k > 0; k-- {
		if mantissa > within[k] {
			i += k
			break
		}
	}
	if mantissa == within[0] {
		i-- // on the bound: it belongs below
	}
	return min(max(i, 0), LatencyBuckets-1)
}

// LatencyBound is the upper bound of a bucket in seconds, which belongs to it; the last one's is
// +Inf.
func LatencyBound(bucket int) float64 {
	if bucket >= LatencyBuckets-1 {
		return math.Inf(1)
	}
	return math.Exp2(latencyFrom + float64(bucket)/perDoubling)
}
