// Package measure counts what a worker does: connections and requests of each listener, measures
// of the program's own, and Go's runtime. A [Report] makes of it what one connection to a master
// has not been told yet.
//
// Counting is done for each request, by many goroutines at once: it takes no lock and allocates
// nothing. So the numbers of a route are not of one instant. The one by which a Report knows that
// they have changed is written last and read first: whatever it has missed comes with the next.
package measure

import (
	"sync"
	"sync/atomic"

	"github.com/masterd/masterd/pkg/ipc"
)

// Set is what one worker counts, but for the measures of the program.
type Set struct {
	Compared *Comparison // with another version

	mu        sync.Mutex
	listeners []*Listener
	slow      []ipc.SlowRoute // of the comparison that is under way
	runtime   goRuntime
}

// NewSet makes one that has counted nothing.
func NewSet() *Set { return &Set{Compared: NewComparison()} }

// Listener returns what is counted of the listener with this name.
func (s *Set) Listener(name string) *Listener {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.listeners {
		if l.name == name {
			return l
		}
	}
	l := &Listener{name: name}
	l.other = &Route{listener: name, name: ipc.RouteOther}
	l.routes.Store(&map[string]*Route{})
	l.compare(s.slow)
	s.listeners = append(s.listeners, l)
	return l
}

// Compare counts for a comparison from now on, which ends the one before; nil: for none.
func (s *Set) Compare(is *ipc.Compare) {
	s.Compared.begin(is)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.slow = nil
	if is != nil {
		s.slow = is.Slow
	}
	for _, l := range s.listeners {
		l.compare(s.slow)
	}
}

func (s *Set) snapshot() []*Listener {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]*Listener(nil), s.listeners...)
}

// Listener is of one listener. Its methods may be called by any goroutine.
type Listener struct {
	name     string
	InFlight atomic.Int64  // requests, and connections that were handed off to this worker
	Open     atomic.Int64  // connections
	Accepted atomic.Uint64 // connections, without those that came from another worker
	_        [64]byte      // a cache line: each request writes above, and reads below

	other  *Route
	routes atomic.Pointer[map[string]*Route] // by the router's pattern; never changed, but replaced
	mu     sync.Mutex                        // of who replaces them
	slow   map[string]uint64                 // nanoseconds from which on a request is slow, by route
}

func (l *Listener) counts() ipc.ListenerCounts {
	return ipc.ListenerCounts{
		Listener: l.name, InFlight: l.InFlight.Load(), Open: l.Open.Load(), Accepted: l.Accepted.Load(),
	}
}
