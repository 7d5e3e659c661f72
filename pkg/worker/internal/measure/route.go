package measure

import (
	"maps"
	"strings"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/masterd/masterd/pkg/ipc"
)

// Answer is a request that has its answer.
type Answer struct {
	Class   int           // of the status, 1 to 5
	In, Out int64         // bytes of the bodies; In below zero: not known
	Took    time.Duration // below zero: it has become something else, and has no latency
}

// Class is the class of a status as it is counted.
func Class(status int) int {
	if status < 100 || status > 599 {
		return 5
	}
	return status / 100
}

// Route is what is counted of one route of a listener.
type Route struct {
	listener, name string

	status            [5]atomic.Uint64
	bytesIn, bytesOut atomic.Uint64
	ns                atomic.Uint64
	slow              atomic.Uint64 // nanoseconds: who takes longer is slow; zero: nobody is
	latency           [ipc.LatencyBuckets]atomic.Uint64
}

// Route finds where requests are counted that the program's router has given to this pattern;
// empty: to none.
func (l *Listener) Route(pattern string) *Route {
	if pattern == "" {
		return l.other
	}
	routes := *l.routes.Load()
	if r := routes[pattern]; r != nil {
		return r
	}
	if len(routes) >= ipc.MaxRoutes {
		return l.other
	}
	return l.addRoute(pattern)
}

// addRoute is called with the first request of a pattern, while there is room.
func (l *Listener) addRoute(pattern string) *Route {
	l.mu.Lock()
	defer l.mu.Unlock()
	routes := *l.routes.Load()
	if r := routes[pattern]; r != nil {
		return r
	}
	if len(routes) >= ipc.MaxRoutes {
		return l.other
	}
	name := cut(pattern, ipc.MaxRouteName)
	r := &Route{listener: l.name, name: name}
	r.slow.Store(l.slow[name])
	if name == ipc.RouteOther {
		r = l.other
	}
	for _, known := range routes {
		if known.name == name { // two patterns that differ behind the cut
			r = known
		}
	}
	more := maps.Clone(routes)
	more[strings.Clone(pattern)] = r
	l.routes.Store(&more)
	return r
}

// compare has requests be slow by these, from now on.
func (l *Listener) compare(slow []ipc.SlowRoute) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.slow = nil
	for _, r := range slow {
		if r.Listener == l.name {
			if l.slow == nil {
				l.slow = make(map[string]uint64)
			}
			l.slow[r.Route] = r.NS
		}
	}
	l.other.slow.Store(l.slow[ipc.RouteOther])
	for _, r := range *l.routes.Load() {
		r.slow.Store(l.slow[r.name])
	}
}

// Slow reports whether a request took too long, by the comparison that is under way.
func (r *Route) Slow(took time.Duration) bool {
	slow := r.slow.Load()
	return slow > 0 && took > 0 && uint64(took) > slow
}

// Count counts a request.
func (r *Route) Count(a Answer) {
	if a.In > 0 {
		r.bytesIn.Add(uint64(a.In))
	}
	if a.Out > 0 {
		r.bytesOut.Add(uint64(a.Out))
	}
	if a.Took >= 0 {
		r.ns.Add(uint64(a.Took))
		r.latency[ipc.LatencyBucket(uint64(a.Took))].Add(1)
	}
	r.status[a.Class-1].Add(1) // last: by this a report sees that the rest has changed
}

// mark is the number of requests.
func (r *Route) mark() (n uint64) {
	for i := range r.status {
		n += r.status[i].Load()
	}
	return n
}

// put adds the numbers to a message.
func (r *Route) put(c *ipc.Counts) {
	rc := ipc.RouteCounts{Listener: r.listener, Route: r.name}
	for i := range r.status {
		rc.Status[i] = r.status[i].Load()
	}
	rc.BytesIn, rc.BytesOut, rc.NS = r.bytesIn.Load(), r.bytesOut.Load(), r.ns.Load()
	for i := range r.latency {
		if n := r.latency[i].Load(); n > 0 {
			rc.Latency = append(rc.Latency, uint64(i), n)
		}
	}
	c.Routes = append(c.Routes, rc)
}

// cut makes a name valid UTF-8 of at most so many bytes.
func cut(name string, most int) string {
	name = strings.ToValidUTF8(name, string(utf8.RuneError))
	if len(name) <= most {
		return name
	}
	for !utf8.RuneStart(name[most]) {
		most--
	}
	return name[:most]
}
