package measure

import (
	"cmp"
	"encoding/json"
	"maps"
	"slices"

	"github.com/masterd/masterd/pkg/ipc"
)

// series is a route or a measure.
type series interface {
	mark() uint64 // grows when something has been counted, and is written last
	put(*ipc.Counts)
}

// Report is what one connection to a master has been told. One goroutine uses it.
type Report struct {
	set         *Set
	program     *Program
	maxInFlight int

	sent map[series]uint64 // the mark that was sent
	next int               // who had no room in the message before, of all series in their order
}

// Report begins to tell a connection everything. maxInFlight is what the program says.
func (s *Set) Report(p *Program, maxInFlight int) *Report {
	return &Report{set: s, program: p, maxInFlight: maxInFlight, sent: make(map[series]uint64)}
}

// Room for lists of routes and measures that are not empty, in JSON.
const listsRoom = len(`,"routes":[],"measures":[]`)

// Next is the next message's: the caller must send it, or make no more use of the Report. more:
// some of what has changed had no room.
func (r *Report) Next() (c *ipc.Counts, more bool) {
	listeners := r.set.snapshot()
	c = r.heads(listeners)
	room := ipc.MaxCounts - size(c) - listsRoom
	all := r.series(listeners)
	for i := range all {
		at := (r.next + i) % len(all)
		s := all[at]
		mark := s.mark() // before the rest: what comes meanwhile is sent again
		if was, known := r.sent[s]; known && was == mark {
			continue
		}
		before := *c
		s.put(c)
		if need := r.added(&before, c); need <= room {
			room -= need
			r.sent[s] = mark
			continue
		} else if *c = before; need > ipc.MaxCounts/2 {
			continue // a listener's name that is too long for any message
		}
		r.next = at
		return c, true
	}
	r.next = 0
	return c, false
}

// heads are what each message has. Listeners have a quarter of its room at most.
func (r *Report) heads(listeners []*Listener) *ipc.Counts {
	c := &ipc.Counts{Go: r.set.goCounts(), MaxInFlight: r.maxInFlight, Compared: r.set.Compared.report()}
	room := ipc.MaxCounts / 4
	for _, l := range listeners {
		lc := l.counts()
		if room -= size(lc) + 1; room < 0 {
			break
		}
		c.Listeners = append(c.Listeners, lc)
	}
	return c
}

func (s *Set) goCounts() *ipc.GoCounts {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.runtime.counts()
}

// series are all that have something to tell, in an order in which new ones may come between.
func (r *Report) series(listeners []*Listener) (all []series) {
	for _, l := range listeners {
		for _, route := range l.all() {
			all = append(all, route)
		}
	}
	measures := *r.program.all.Load()
	for _, name := range slices.Sorted(maps.Keys(measures)) {
		all = append(all, measures[name])
	}
	return all
}

// all are the routes that have had requests, each once, by name.
func (l *Listener) all() []*Route {
	routes := []*Route{l.other}
	for _, r := range *l.routes.Load() {
		routes = append(routes, r)
	}
	routes = slices.DeleteFunc(routes, func(r *Route) bool { return r.mark() == 0 })
	slices.SortFunc(routes, func(a, b *Route) int { return cmp.Compare(a.name, b.name) })
	return slices.Compact(routes)
}

// added is by how many bytes of JSON a message has grown.
func (r *Report) added(before, c *ipc.Counts) int {
	if n := len(before.Routes); len(c.Routes) > n {
		return size(c.Routes[n]) + 1
	}
	return size(c.Measures[len(before.Measures)]) + 1
}

func size(v any) int {
	b, err := json.Marshal(v)
	if err != nil {
		panic("worker: what is counted is no JSON: " + err.Error()) // numbers and valid strings
	}
	return len(b)
}
