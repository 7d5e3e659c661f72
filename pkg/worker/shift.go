package worker

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"slices"
	"sync"
	"time"
)

const (
	takeUpTimeout = time.Second // for a server to begin with the connections that it has accepted
	stopTimeout   = time.Second // for what a server does to return after Stop
)

// shifts stand behind a door whose listener is served by the program's own
// servers, one after the other. A connection waits here, counted, until the
// server of the current shift accepts it: so a change of shifts loses none.
//
// Its methods are called by the life's goroutine, but for Serve.
type shifts struct {
	name string // the listener's
	make func() GracefulServer
	log  *slog.Logger
	look func() // a shift has ended

	first GracefulServer // made, and not begun

	mu       sync.Mutex
	cond     sync.Cond // any of these has changed
	broken   chan<- error
	queue    []net.Conn // bounded: a pump adds one when it is empty, the master passes and a drain takes what maxTaken allows
	pumps    int
	now      *shift // nil before begin, and after the last
	all      map[*shift]struct{}
	leaving  int  // shifts that stop gracefully
	finished bool // no shift follows, but for what comes late
	stopped  bool

	running sync.WaitGroup
	closing sync.Once
}

// shift is one server and its time; to that server it is the listener.
type shift struct {
	of     *shifts
	server GracefulServer

	given     uint64 // connections accepted
	untouched int    // of them, those that the server has not begun with
	last      bool   // it goes when the queue is empty
	closed    bool   // its Accept has ended
	ended     bool   // its Serve has
}

func newShifts(name string, make func() GracefulServer, look func(), log *slog.Logger) *shifts {
	s := &shifts{name: name, make: make, log: log, look: look, all: map[*shift]struct{}{}}
	s.cond.L = &s.mu
	return s
}

// begin has the first server serve. One that ends by itself is told to broken.
func (s *shifts) begin(broken chan<- error) error {
	s.mu.Lock()
	s.broken = broken
	s.mu.Unlock()
	return s.next()
}

// next gives what arrives from now on to a fresh server; the one before leaves,
// beside the caller. A server that nobody has come to need not be replaced.
func (s *shifts) next() error {
	s.mu.Lock()
	unused := s.now != nil && s.now.given == 0 && !s.now.ended
	s.mu.Unlock()
	if unused {
		return nil
	}
	server, err := s.first, error(nil)
	if s.first = nil; server == nil {
		server, err = s.build()
	}
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	before, fresh := s.now, &shift{of: s, server: server}
	s.now = fresh
	s.all[fresh] = struct{}{}
	s.running.Go(fresh.serve)
	if before != nil {
		s.leaving++
		s.running.Go(before.leave)
	}
	s.cond.Broadcast()
	return nil
}

func (s *shifts) build() (server GracefulServer, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("making its server panicked: %v", p)
		}
	}()
	if server = s.make(); server == nil {
		err = errors.New("the function that makes its server returned nil")
	}
	return server, err
}

// finish has the current server take what waits, and leave. The acceptors are
// closed by then.
func (s *shifts) finish() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.finished = true
	sh := s.now
	if sh == nil || sh.last {
		return
	}
	sh.last = true
	s.leaving++
	s.running.Go(func() {
		s.mu.Lock()
		for (s.pumps > 0 || len(s.queue) > 0) && !sh.ended && !s.stopped {
			s.cond.Wait()
		}
		s.now = nil
		s.mu.Unlock()
		sh.leave()
	})
}

// leavers are the shifts that stop gracefully.
func (s *shifts) leavers() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.leaving
}

// put has the current server serve a connection. When the last has gone, one
// more comes for it and goes again.
func (s *shifts) put(c net.Conn) {
	s.mu.Lock()
	if s.stopped || s.now != nil && s.now.ended {
		s.mu.Unlock()
		c.Close() // nobody will serve it
		return
	}
	s.queue = append(s.queue, c)
	s.cond.Broadcast()
	late := s.finished && s.now == nil && s.broken != nil
	s.mu.Unlock()
	if late {
		if err := s.next(); err != nil {
			s.log.Error("worker: a connection that came late is not served", "error", err)
			s.drop()
		}
		s.finish()
	}
}

// drop closes what waits.
func (s *shifts) drop() {
	s.mu.Lock()
	queue := s.queue
	s.queue = nil
	s.cond.Broadcast()
	s.mu.Unlock()
	for _, c := range queue {
		c.Close()
	}
}

// Serve lets in what an acceptor accepts until that is closed: to the door the
// shifts are a server. It takes the next only when nothing waits, so that a
// server that limits itself leaves the rest in the kernel's queue.
func (s *shifts) Serve(from net.Listener) error {
	s.mu.Lock()
	s.pumps++
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		s.pumps--
		s.cond.Broadcast()
		s.mu.Unlock()
	}()
	for {
		s.mu.Lock()
		for len(s.queue) > 0 && !s.stopped {
			s.cond.Wait()
		}
		s.mu.Unlock()
		c, err := from.Accept()
		if err != nil {
			return err
		}
		s.put(c)
	}
}

// cut stops every server, beside the caller.
func (s *shifts) cut() {
	s.mu.Lock()
	was := s.stopped
	s.stopped = true
	all := slices.Collect(maps.Keys(s.all))
	s.mu.Unlock()
	if was {
		return
	}
	s.drop()
	for _, sh := range all {
		sh.Close()
		s.running.Go(sh.server.Stop)
	}
}

// Close stops every server and waits for what they do. It is idempotent.
func (s *shifts) Close() error {
	s.closing.Do(func() {
		s.cut()
		if !within(stopTimeout, s.running.Wait) {
			s.log.Warn("worker: a server was stopped and has not ended", "waited", stopTimeout)
		}
	})
	return nil
}

// serve runs the server.
func (sh *shift) serve() {
	s := sh.of
	err := sh.server.Serve(sh)
	s.mu.Lock()
	sh.ended = true
	asked := s.now != sh || sh.closed || s.stopped
	broken := s.broken
	s.cond.Broadcast()
	s.mu.Unlock()
	if asked {
		return
	}
	s.drop()
	if err == nil {
		err = errors.New("it returned without having been stopped")
	}
	select {
	case broken <- fmt.Errorf("listener %q: its server ended by itself: %w", s.name, err):
	default: // one is enough
	}
}

// leave stops a server that is not the current one any more.
//
// A connection that Accept has returned may be closed unanswered by a server
// that is being stopped (grpc's does so until it has begun the handshake), and
// its client would see that: so each is waited for until the server has touched
// it.
func (sh *shift) leave() {
	s := sh.of
	late := false
	limit := time.AfterFunc(takeUpTimeout, func() {
		s.mu.Lock()
		late = true
		s.cond.Broadcast()
		s.mu.Unlock()
	})
	defer limit.Stop()
	s.mu.Lock()
	for sh.untouched > 0 && !late && !s.stopped {
		s.cond.Wait()
	}
	s.mu.Unlock()

	sh.server.GracefulStop()
	sh.Close()
	s.mu.Lock()
	delete(s.all, sh)
	s.leaving--
	s.mu.Unlock()
	s.look()
}

// Accept waits for a connection while the shift is the current one, and then
// for its Close: a server that is not told yet that it stops need not fail.
func (sh *shift) Accept() (net.Conn, error) {
	s := sh.of
	s.mu.Lock()
	defer s.mu.Unlock()
	for !sh.closed {
		if s.now == sh && len(s.queue) > 0 {
			c := &handed{Conn: s.queue[0], sh: sh}
			s.queue = s.queue[1:]
			sh.given++
			sh.untouched++
			s.cond.Broadcast()
			return c, nil
		}
		s.cond.Wait()
	}
	return nil, net.ErrClosed
}

// Close ends Accept. The sockets stay.
func (sh *shift) Close() error {
	sh.of.mu.Lock()
	defer sh.of.mu.Unlock()
	sh.closed = true
	sh.of.cond.Broadcast()
	return nil
}

func (sh *shift) Addr() net.Addr { return loopback() }
