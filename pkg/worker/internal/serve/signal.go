package serve

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
)

type signalKey struct{}

// SignalOf is the signal that a request's context, or that of a received connection, has;
// nil: it is none of these.
func SignalOf(ctx context.Context) *Signal {
	n, _ := ctx.Value(signalKey{}).(*Signal)
	return n
}

// WithSignal is ctx with a signal that SignalOf finds.
func WithSignal(ctx context.Context, n *Signal) context.Context {
	return context.WithValue(ctx, signalKey{}, n)
}

// Signal tells that clients are to go: a flag that every answer reads, with a channel for
// those who wait for it. It can be cleared. Its methods may be called by any goroutine.
type Signal struct {
	set atomic.Bool
	mu  sync.Mutex
	ch  chan struct{}
	// calls are made when it is set; each is there once.
	calls map[*func()]struct{}
}

// NewSignal returns a signal that is not set.
func NewSignal() *Signal {
	return &Signal{ch: make(chan struct{}), calls: make(map[*func()]struct{})}
}

// AfterFunc has f called, in a goroutine of its own, when the signal is set; at once if it
// is. What stop returns is as for context.AfterFunc.
func (s *Signal) AfterFunc(f func()) (stop func() bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.set.Load() {
		go f()
		return func() bool { return false }
	}
	s.calls[&f] = struct{}{}
	return func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		_, waits := s.calls[&f]
		delete(s.calls, &f)
		return waits
	}
}

// Waiting is how many functions are to be called.
func (s *Signal) Waiting() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.calls)
}

// IsSet tells whether it is set.
func (s *Signal) IsSet() bool { return s.set.Load() }

// Set sets it, and makes the calls that wait.
func (s *Signal) Set() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.set.Swap(true) {
		close(s.ch)
		for f := range s.calls {
			go (*f)()
		}
		clear(s.calls)
	}
}

// Clear takes it back: what asks from now on waits for the next Set.
func (s *Signal) Clear() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.set.Swap(false) {
		s.ch = make(chan struct{})
	}
}

// Done is closed when it is set, and another one once it was cleared.
func (s *Signal) Done() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ch
}

func withSignal(base func(net.Listener) context.Context, n *Signal) func(net.Listener) context.Context {
	return func(ln net.Listener) context.Context {
		ctx := context.Background()
		if base != nil {
			ctx = base(ln)
		}
		return WithSignal(ctx, n)
	}
}
