package counters

import (
	"maps"
	"math"

	"github.com/masterd/masterd/pkg/ipc"
)

// Limits of one sum. A worker is held to those of the protocol, but versions come and go, each
// with names of its own, and what was counted once stays.
const (
	maxListeners   = 64                  // besides noListener, which those after them count as
	maxRoutes      = 4 * ipc.MaxRoutes   // of a listener, besides its ipc.RouteOther, which those after them count as
	maxRoutesInAll = 16 * ipc.MaxRoutes  // of all listeners
	maxMeasures    = 4 * ipc.MaxMeasures // those after them are not counted
)

// noListener is what counts under no listener.
const noListener = ""

// sums are the service's and a generation's.
type sums [2]*totals

// totals are Totals that are still added to.
type totals struct {
	Totals
	routes map[string]int // how many each listener has; those of the name ipc.RouteOther are not among them
	inAll  int            // of all listeners
}

func newTotals() *totals {
	return &totals{
		Totals: Totals{Routes: map[RouteKey]*Route{}, Measures: map[string]*Measure{}, Accepted: map[string]uint64{}},
		routes: map[string]int{},
	}
}

// listener is the name that a listener counts under.
func (t *totals) listener(name string) string {
	if _, there := t.routes[name]; there || name == noListener {
		return name
	}
	if len(t.routes) >= maxListeners {
		return noListener
	}
	t.routes[name] = 0
	return name
}

// accept adds connections that were accepted.
func (t *totals) accept(listener string, n uint64) {
	listener = t.listener(listener)
	sum := t.Accepted[listener]
	add(&sum, n)
	t.Accepted[listener] = sum
}

// route is what a route's requests are added to.
func (t *totals) route(k RouteKey) *Route {
	k.Listener = t.listener(k.Listener)
	full := k.Listener == noListener || t.routes[k.Listener] >= maxRoutes || t.inAll >= maxRoutesInAll
	if t.Routes[k] == nil && full {
		k.Route = ipc.RouteOther
	}
	r := t.Routes[k]
	if r == nil {
		r = &Route{}
		t.Routes[k] = r
		if k.Route != ipc.RouteOther {
			t.routes[k.Listener]++
			t.inAll++
		}
	}
	return r
}

// add adds what has grown.
func (r *Route) add(by *Route) {
	for i, n := range by.Status {
		add(&r.Status[i], n)
	}
	add(&r.BytesIn, by.BytesIn)
	add(&r.BytesOut, by.BytesOut)
	add(&r.NS, by.NS)
	for i, n := range by.Latency {
		add(&r.Latency[i], n)
	}
}

// measure adds to one.
func (t *totals) measure(name string, by Measure) {
	m := t.Measures[name]
	if m == nil {
		if len(t.Measures) >= maxMeasures {
			return
		}
		m = &Measure{}
		t.Measures[name] = m
	}
	add(&m.Total, by.Total)
	add(&m.Observed, by.Observed)
	if sum := m.Sum + by.Sum; finite(sum) {
		m.Sum = sum
	}
}

// copy shares nothing.
func (t *totals) copy() Totals {
	out := t.Totals
	out.Accepted = maps.Clone(t.Accepted)
	out.Routes = make(map[RouteKey]*Route, len(t.Routes))
	routes := make([]Route, 0, len(t.Routes))
	for k, r := range t.Routes {
		routes = append(routes, *r)
		out.Routes[k] = &routes[len(routes)-1]
	}
	out.Measures = make(map[string]*Measure, len(t.Measures))
	for name, m := range t.Measures {
		is := *m
		out.Measures[name] = &is
	}
	return out
}

// add adds. A sum that has no room stays where it is, as one that begins again at zero would have
// fallen.
func add(to *uint64, n uint64) {
	if *to += n; *to < n {
		*to = math.MaxUint64
	}
}

func finite(x float64) bool { return !math.IsNaN(x) && !math.IsInf(x, 0) }
