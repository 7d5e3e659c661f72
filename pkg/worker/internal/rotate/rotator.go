// Package rotate serves one listener by servers of the program's own, one after the other: a
// server that was stopped cannot go on, and a worker that is parked can be activated again.
//
// A park starts a fresh server, and stops the one before gracefully once it has begun with
// all connections that it has accepted: grpc-go closes without an answer what it has accepted
// and not begun with. Health checks have a server of their own, which no park stops.
package rotate

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/masterd/masterd/pkg/worker/internal/tasks"
)

const (
	firstUseTimeout = time.Second // for a server to begin with the connections that it has accepted
	StopTimeout     = time.Second // for what a server does to return after Stop

	// MaxStopping is how many servers of one listener may wait for their clients at
	// one time, where each has a client that stays: further parks change nothing.
	MaxStopping = 32
)

// Server is what the program gives for a listener that does not speak HTTP. The
// SDK's GracefulServer documents what each method promises.
type Server interface {
	Serve(net.Listener) error
	GracefulStop()
	Stop()
}

// Rotator serves a listener by the program's own servers, one after the other. A
// connection waits here, counted, until the current server accepts it: so a change of
// servers loses none.
//
// Prepare is called once, before Start. Start, Rotate, Finish, Cut and Close are called by
// one goroutine; Serve, Put and Stopping by any.
type Rotator struct {
	name      string // the listener's
	make      func() Server
	log       *slog.Logger
	onStopped func() // called when a server that was to stop gracefully has

	first Server // made, and not begun

	mu          sync.Mutex
	cond        sync.Cond // any of these has changed
	broken      chan<- error
	queue       []net.Conn // bounded: Serve adds one when it is empty; what Put adds its caller bounds
	acceptLoops int
	current     *instance // nil before Start, and after the last
	instances   map[*instance]struct{}
	stopping    int  // servers that stop gracefully
	finished    bool // no server follows, but for what comes late
	stopped     bool

	running tasks.Group
	closing sync.Once
}

// instance is one server and its time; to that server it is the listener.
type instance struct {
	rotator *Rotator
	server  Server

	accepted  uint64 // connections accepted
	unstarted int    // of them, those that the server has not begun with
	last      bool   // it goes when the queue is empty
	closed    bool   // its Accept has ended
	ended     bool   // its Serve has
}

// New returns a rotator for the listener with this name. onStopped is called each
// time that a server which was to stop gracefully has stopped. Close ends all that runs.
func New(name string, make func() Server, onStopped func(), log *slog.Logger) *Rotator {
	s := &Rotator{name: name, make: make, log: log, onStopped: onStopped, instances: map[*instance]struct{}{}}
	s.cond.L = &s.mu
	return s
}

// Prepare makes the first server. It is called once, before Start, and may take as long
// as the program does.
func (r *Rotator) Prepare() (err error) {
	r.first, err = r.build()
	return err
}

// Start has the first server serve. The error of one that ends by itself is sent to broken,
// if that has room.
func (r *Rotator) Start(broken chan<- error) error {
	r.mu.Lock()
	r.broken = broken
	r.mu.Unlock()
	return r.Rotate()
}

// Rotate gives what arrives from now on to a fresh server; the one before leaves,
// beside the caller. A server that nobody has come to need not be replaced.
func (r *Rotator) Rotate() error {
	r.mu.Lock()
	unused := r.current != nil && r.current.accepted == 0 && !r.current.ended
	r.mu.Unlock()
	if unused {
		return nil
	}
	server, err := r.first, error(nil)
	if r.first = nil; server == nil {
		server, err = r.build()
	}
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	before, fresh := r.current, &instance{rotator: r, server: server}
	r.current = fresh
	r.instances[fresh] = struct{}{}
	r.running.Go(fresh.serve)
	if before != nil {
		r.stopping++
		r.running.Go(before.stopGracefully)
	}
	r.cond.Broadcast()
	return nil
}

func (r *Rotator) build() (server Server, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("making its server panicked: %v", p)
		}
	}()
	if server = r.make(); server == nil {
		err = errors.New("the function that makes its server returned nil")
	}
	return server, err
}

// Finish has the current server take what waits, and leave. The acceptors are
// closed by then.
func (r *Rotator) Finish() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.finished = true
	sh := r.current
	if sh == nil || sh.last {
		return
	}
	sh.last = true
	r.stopping++
	r.running.Go(func() {
		r.mu.Lock()
		for (r.acceptLoops > 0 || len(r.queue) > 0) && !sh.ended && !r.stopped {
			r.cond.Wait()
		}
		r.current = nil
		r.mu.Unlock()
		sh.stopGracefully()
	})
}

// Stopping is how many servers stop gracefully and have not ended.
func (r *Rotator) Stopping() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.stopping
}

// Put has the current server serve a connection. When the last has gone, one
// more comes for it and goes again.
func (r *Rotator) Put(c net.Conn) {
	r.mu.Lock()
	if r.stopped || r.current != nil && r.current.ended {
		r.mu.Unlock()
		c.Close() // nobody will serve it
		return
	}
	r.queue = append(r.queue, c)
	r.cond.Broadcast()
	late := r.finished && r.current == nil && r.broken != nil
	r.mu.Unlock()
	if late {
		if err := r.Rotate(); err != nil {
			r.log.Error("worker: a connection that came late is not served", "error", err)
			r.closeQueue()
		}
		r.Finish()
	}
}

// closeQueue closes what waits.
func (r *Rotator) closeQueue() {
	r.mu.Lock()
	queue := r.queue
	r.queue = nil
	r.cond.Broadcast()
	r.mu.Unlock()
	for _, c := range queue {
		c.Close()
	}
}

// Serve lets in what an acceptor accepts until that is closed: to the listener the
// rotator is a server. It takes the next only when nothing waits, so that a
// server that limits itself leaves the rest in the kernel's queue.
func (r *Rotator) Serve(from net.Listener) error {
	r.mu.Lock()
	r.acceptLoops++
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		r.acceptLoops--
		r.cond.Broadcast()
		r.mu.Unlock()
	}()
	for {
		r.mu.Lock()
		for len(r.queue) > 0 && !r.stopped {
			r.cond.Wait()
		}
		r.mu.Unlock()
		c, err := from.Accept()
		if err != nil {
			return err
		}
		r.Put(c)
	}
}

// Cut stops every server, beside the caller.
func (r *Rotator) Cut() {
	r.mu.Lock()
	was := r.stopped
	r.stopped = true
	all := slices.Collect(maps.Keys(r.instances))
	r.mu.Unlock()
	if was {
		return
	}
	r.closeQueue()
	for _, sh := range all {
		sh.Close()
		r.running.Go(sh.server.Stop)
	}
}

// Close stops every server and waits for what they do. It is idempotent.
func (r *Rotator) Close() error {
	r.closing.Do(func() {
		r.Cut()
		if !Wait(StopTimeout, r.running.Wait) {
			r.log.Warn("worker: a server was stopped and has not ended", "waited", StopTimeout)
		}
	})
	return nil
}

// serve runs the server.
func (i *instance) serve() {
	s := i.rotator
	err := i.server.Serve(i)
	s.mu.Lock()
	i.ended = true
	asked := s.current != i || i.closed || s.stopped
	broken := s.broken
	s.cond.Broadcast()
	s.mu.Unlock()
	if asked {
		return
	}
	s.closeQueue()
	if err == nil {
		err = errors.New("it returned without having been stopped")
	}
	select {
	case broken <- fmt.Errorf("listener %q: its server ended by itself: %w", s.name, err):
	default: // one is enough
	}
}

// stopGracefully stops a server that is not the current one any more.
//
// A connection that Accept has returned may be closed unanswered by a server
// that is being stopped (grpc's does so until it has begun the handshake), and
// its client would see that: so each is waited for until the server has touched
// it.
func (i *instance) stopGracefully() {
	s := i.rotator
	late := false
	limit := time.AfterFunc(firstUseTimeout, func() {
		s.mu.Lock()
		late = true
		s.cond.Broadcast()
		s.mu.Unlock()
	})
	defer limit.Stop()
	s.mu.Lock()
	for i.unstarted > 0 && !late && !s.stopped {
		s.cond.Wait()
	}
	s.mu.Unlock()

	i.server.GracefulStop()
	i.Close()
	s.mu.Lock()
	delete(s.instances, i)
	s.stopping--
	s.mu.Unlock()
	s.onStopped()
}

// Accept waits for a connection while the server is the current one, and then
// for its Close: a server that does not know yet that it stops need not fail.
func (i *instance) Accept() (net.Conn, error) {
	s := i.rotator
	s.mu.Lock()
	defer s.mu.Unlock()
	for !i.closed {
		if s.current == i && len(s.queue) > 0 {
			c := &firstUseConn{Conn: s.queue[0], by: i}
			s.queue = s.queue[1:]
			i.accepted++
			i.unstarted++
			s.cond.Broadcast()
			return c, nil
		}
		s.cond.Wait()
	}
	return nil, net.ErrClosed
}

// Close ends Accept. The sockets stay.
func (i *instance) Close() error {
	i.rotator.mu.Lock()
	defer i.rotator.mu.Unlock()
	i.closed = true
	i.rotator.cond.Broadcast()
	return nil
}

func (i *instance) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)} }

// Wait calls f, which may wait for functions of the program's, and reports whether
// it has returned in time. One that never returns is left to the process's end.
func Wait(limit time.Duration, f func()) bool {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		f()
	}()
	t := time.NewTimer(limit)
	defer t.Stop()
	select {
	case <-ended:
		return true
	case <-t.C:
		return false
	}
}
