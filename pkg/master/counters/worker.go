package counters

import (
	"maps"
	"slices"
	"unicode"
	"unicode/utf8"

	"github.com/masterd/masterd/pkg/ipc"
)

// worker is what one has said so far: of each number the most. A number that falls adds nothing,
// and adds nothing either when it rises to where it was.
type worker struct {
	generation uint64
	said       bool                                  // counts, once: then its stats say nothing of what it accepted
	routes     map[string]map[string]ipc.RouteCounts // by listener; what is in there is not changed any more
	measures   map[string]ipc.MeasureCounts
	accepted   map[string]uint64
	stats      ipc.Stats

	pauses [2]uint64 // the longest of this minute of beats, and of the one before
	beats  int       // that said a pause

	heard bool // by this master; else there is nothing of this moment
	now   Worker
}

func newWorker(generation uint64) *worker {
	return &worker{
		generation: generation, routes: map[string]map[string]ipc.RouteCounts{},
		measures: map[string]ipc.MeasureCounts{}, accepted: map[string]uint64{},
		now: Worker{Generation: generation, Last: map[string]float64{}},
	}
}

// hear takes what the worker says, of these listeners.
func (w *worker) hear(listeners []string, c *ipc.Counts, to sums) {
	w.now.Listeners = nil
	for _, l := range c.Listeners {
		if !slices.Contains(listeners, l.Listener) || slices.ContainsFunc(w.now.Listeners,
			func(n ipc.ListenerCounts) bool { return n.Listener == l.Listener }) {
			continue
		}
		w.accept(l.Listener, l.Accepted, to)
		l.InFlight, l.Open = max(l.InFlight, 0), max(l.Open, 0)
		w.now.Listeners = append(w.now.Listeners, l)
	}
	for _, r := range c.Routes {
		if slices.Contains(listeners, r.Listener) && isRoute(r.Route) {
			w.route(r, to)
		}
	}
	for _, m := range c.Measures {
		if ipc.IsMeasure(m.Name) {
			w.measure(m, to)
		}
	}
	w.now.Go = nil
	if c.Go != nil {
		is := *c.Go
		w.now.Go = &is
		w.paused(is.PauseMaxNS)
	}
	w.now.MaxInFlight = max(c.MaxInFlight, 0)
}

// pauseBeats is for how many beats a pause is remembered at least; twice as many at most.
const pauseBeats = 60

// paused remembers the longest pause of a beat.
func (w *worker) paused(ns uint64) {
	if w.beats++; w.beats%pauseBeats == 0 {
		w.pauses = [2]uint64{0, w.pauses[0]}
	}
	w.pauses[0] = max(w.pauses[0], ns)
	w.now.LongestPauseNS = max(w.pauses[0], w.pauses[1])
}

// hearStats takes what the counts do not have, or all that there is from an older SDK.
func (w *worker) hearStats(listeners []string, st *ipc.Stats, to sums) {
	if !w.said {
		only := noListener // which it was is not known, unless there is one
		if len(listeners) == 1 {
			only = listeners[0]
		}
		w.accept(only, st.Accepted, to)
		w.now.Listeners = []ipc.ListenerCounts{{Listener: only, InFlight: max(st.InFlight, 0), Open: max(st.Open, 0),
			Accepted: st.Accepted}}
	}
	w.now.Goroutines = max(st.Goroutines, 0)
	cut, moved := rise(&w.stats.Cut, st.Cut), rise(&w.stats.Moved, st.Moved)
	refused, slow := rise(&w.stats.Refused, st.Refused), rise(&w.stats.SlowBodies, st.SlowBodies)
	for _, t := range to {
		add(&t.Cut, cut)
		add(&t.HandedOver, moved)
		add(&t.Refused, refused)
		add(&t.SlowBodies, slow)
	}
}

func (w *worker) accept(listener string, n uint64, to sums) {
	most := w.accepted[listener]
	by := rise(&most, n)
	w.accepted[listener] = most
	for _, t := range to {
		t.accept(listener, by)
	}
}

func (w *worker) route(r ipc.RouteCounts, to sums) {
	routes := w.routes[r.Listener]
	was, known := routes[r.Route]
	named := len(routes)
	if _, other := routes[ipc.RouteOther]; other {
		named-- // it has a place of its own
	}
	if !known && named >= ipc.MaxRoutes && r.Route != ipc.RouteOther {
		return
	}
	by, most := grown(was, r)
	if known && by == (Route{}) {
		return
	}
	if routes == nil {
		routes = map[string]ipc.RouteCounts{}
		w.routes[r.Listener] = routes
	}
	routes[r.Route] = most
	for _, t := range to {
		t.route(RouteKey{r.Listener, r.Route}).add(&by)
	}
}

// grown is by how much a route has grown, and the most of each of its numbers.
func grown(was, is ipc.RouteCounts) (by Route, most ipc.RouteCounts) {
	most = was
	most.Listener, most.Route = is.Listener, is.Route
	for i := range by.Status {
		by.Status[i] = rise(&most.Status[i], is.Status[i])
	}
	by.BytesIn, by.BytesOut = rise(&most.BytesIn, is.BytesIn), rise(&most.BytesOut, is.BytesOut)
	by.NS = rise(&most.NS, is.NS)
	all := spread(was.Latency)
	for i, n := range spread(is.Latency) {
		by.Latency[i] = rise(&all[i], n)
	}
	most.Latency = pairs(&all)
	return by, most
}

func (w *worker) measure(m ipc.MeasureCounts, to sums) {
	most, known := w.measures[m.Name]
	if !known && len(w.measures) >= ipc.MaxMeasures {
		return
	}
	most.Name = m.Name
	by := Measure{Total: rise(&most.Total, m.Total), Observed: rise(&most.Observed, m.Observed)}
	if sum := m.Sum - most.Sum; by.Observed > 0 && finite(m.Sum) && finite(sum) {
		by.Sum, most.Sum = sum, m.Sum
	}
	if most.Observed > 0 && finite(m.Last) {
		w.now.Last[m.Name] = m.Last
	}
	w.measures[m.Name] = most
	for _, t := range to {
		t.measure(m.Name, by)
	}
}

// copy is what the worker says of this moment. It shares nothing.
func (w *worker) copy() Worker {
	out := w.now
	out.Listeners, out.Last = slices.Clone(w.now.Listeners), maps.Clone(w.now.Last)
	if w.now.Go != nil {
		is := *w.now.Go
		out.Go = &is
	}
	return out
}

// rise raises a number to where it is now, if that is more, and returns by how much.
func rise(most *uint64, is uint64) (by uint64) {
	if is > *most {
		by, *most = is-*most, is
	}
	return by
}

// spread are the counts of all buckets. Pairs that name none are ignored.
func spread(pairs []uint64) (all [ipc.LatencyBuckets]uint64) {
	for i := 0; i+1 < len(pairs); i += 2 {
		if bucket := pairs[i]; bucket < ipc.LatencyBuckets {
			all[bucket] = max(all[bucket], pairs[i+1])
		}
	}
	return all
}

// pairs are the buckets that are not empty, with their counts.
func pairs(all *[ipc.LatencyBuckets]uint64) []uint64 {
	var out []uint64
	for bucket, n := range all {
		if n > 0 {
			out = append(out, uint64(bucket), n)
		}
	}
	return out
}

// isRoute reports whether this can be a route's name.
func isRoute(name string) bool {
	if name == "" || len(name) > ipc.MaxRouteName || !utf8.ValidString(name) {
		return false
	}
	for _, c := range name {
		if !unicode.IsPrint(c) {
			return false
		}
	}
	return true
}
