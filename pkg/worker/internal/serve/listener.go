// Package serve serves one named listener: it accepts, tracks connections and requests, keeps
// within limits, and sets Connection: close in answers while the worker leaves. Traffic is
// what all listeners of a worker share.
package serve

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"sync/atomic"
	"time"

	"github.com/masterd/masterd/pkg/worker/internal/goaway"
	"github.com/masterd/masterd/pkg/worker/internal/measure"
	"github.com/masterd/masterd/pkg/worker/internal/migrate"
	"github.com/masterd/masterd/pkg/worker/internal/rotate"
	"github.com/masterd/masterd/pkg/worker/internal/tasks"
)

// MaxProbes is how many health checks one worker serves at one time; a master
// that does not close them gets an error.
const MaxProbes = 64

// warnApart is between two lines of the log about clients that are over a bound.
const warnApart = time.Minute

// Listener is a listener being served: the sockets that clients come from, and two
// servers, one for them and one for the master's health checks.
//
// Add, Pause, Resume, Shut, Close and Bound are called by one goroutine; ServeConn,
// ServeProbe, what makes it a migrate.Target, and Wait by any.
type Listener struct {
	*Config
	log     *slog.Logger
	traffic *Traffic
	counts  *measure.Listener
	sender  *migrate.Sender // nil: its connections cannot move
	limits  *connLimits     // nil: nothing bounds how many there are
	warned  atomic.Int64

	public, probe server
	handshake     *tls.Config // nil without TLS; the servers change their own copies
	injected      connSink    // clients whose connections were not accepted here
	probes        connSink
	rotator       *rotate.Rotator // public and injected, for servers of the program's own; else nil
	sockets       []*acceptor
	serving       tasks.Group
}

// server is what serves: net/http's, or the program's own behind a rotator.
type server interface {
	// Serve takes connections from one source until that ends.
	Serve(from net.Listener) error
	Close() error
}

// connSink takes connections that were accepted elsewhere.
type connSink interface {
	Put(net.Conn)
	Close() error
}

// Open makes the servers, which serve what is injected from now on; Add gives them a socket.
// With an error nothing is left to close. h gives its connections to other workers.
func (c *Config) Open(t *Traffic, h *migrate.Sender, log *slog.Logger) (*Listener, error) {
	if c.Make != nil {
		return c.openCustom(t, log), nil
	}
	var certs *certificate
	if c.TLS {
		var err error
		if certs, err = loadCertificate(c.CertFile, c.KeyFile, log); err != nil {
			return nil, fmt.Errorf("listener %q: %w", c.Name, err)
		}
	}
	log = log.With("listener", c.Name)
	public, probe := c.httpServer(certs, log), c.httpServer(certs, log)
	injected, probes := newConnQueue(), newConnQueue()
	d := &Listener{
		Config: c, log: log, traffic: t, counts: t.Counts.Listener(c.Name),
		limits: newConnLimits(c.MaxConns, c.MaxPerAddress),
		public: public, injected: injected,
		probe: probe, probes: probes,
	}
	if c.TLS {
		if public.TLSConfig == nil {
			return nil, fmt.Errorf("listener %q: worker.TLS was asked for, but worker.Server took the TLSConfig away", c.Name)
		}
		d.handshake = public.TLSConfig.Clone()
	} else {
		d.sender = h
	}
	goaway.Filter(public, t.GoAways)
	watchConnState(public)
	public.ConnContext = withConn(public.ConnContext)
	if d.handshake != nil && public.TLSNextProto[goaway.ProtoHTTP2] == nil {
		// The program wants none; a client must not be offered it.
		protos := d.handshake.NextProtos
		d.handshake.NextProtos = slices.DeleteFunc(protos, func(p string) bool { return p == goaway.ProtoHTTP2 })
	}
	public.Handler = &instrumented{next: c.Handler, l: d, shouldClose: d.shouldClose, slow: d.slowBody}
	probe.Handler = c.Handler
	for _, s := range []*http.Server{public, probe} {
		s.BaseContext = withSignal(s.BaseContext, t.Leaving)
	}
	d.serve(public, injected)
	d.serve(probe, probes)
	return d, nil
}

// watchConnState lets connections know what the server does with them.
func watchConnState(s *http.Server) {
	next := s.ConnState
	s.ConnState = func(c net.Conn, state http.ConnState) {
		c = goaway.Underlying(c)
		if m := clientConn(c); m != nil {
			m.StateChanged(state)
		}
		if next != nil {
			next(c, state)
		}
	}
}

// clientConn is what there is of ours beneath a connection that net/http serves; nil: nothing.
func clientConn(c net.Conn) *migrate.Conn {
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	return migrate.Of(c)
}

// Movable: connections can come here from other workers, and go to them.
func (l *Listener) Movable() bool { return l.sender != nil }

// shouldClose tells whether an answer shall ask for the connection to be closed.
func (l *Listener) shouldClose() bool {
	if !l.traffic.Leaving.IsSet() {
		return false
	}
	return !l.Movable() || l.sender.ShouldClose(l.Name)
}

// track counts a client's connection that is new; nil: its address has too many, and
// it is closed.
func (l *Listener) track(c net.Conn) net.Conn {
	s, ok := l.limits.acquire(c, true)
	if !ok {
		reset(c)
		l.overLimit(&l.traffic.refused, "connections of an address that has too many are reset", c.RemoteAddr().String())
		return nil
	}
	l.counts.Accepted.Add(1)
	return l.traffic.clients.track(c, l, s)
}

// trackAccepted is track of a connection that came by a socket of ours: the kernel has chosen the
// worker. What a program's own server answers nobody sees.
func (l *Listener) trackAccepted(c net.Conn) net.Conn {
	t := l.track(c)
	if m := migrate.Of(t); m != nil && l.rotator == nil {
		l.traffic.Counts.Compared.Accepted(&m.Unit)
	}
	return t
}

// trackMigrated counts a client's connection that another worker has served.
func (l *Listener) trackMigrated(c net.Conn) net.Conn {
	s, _ := l.limits.acquire(c, false)
	return l.traffic.clients.track(c, l, s)
}

// requestBegun is called when a request begins, or a connection that was handed off.
func (l *Listener) requestBegun() {
	l.traffic.inFlight.Add(1)
	l.counts.InFlight.Add(1)
}

// requestEnded is called when it has its answer, or has ended, and is counted.
func (l *Listener) requestEnded() {
	l.counts.InFlight.Add(-1)
	t := l.traffic
	if t.inFlight.Add(-1) == 0 && t.Leaving.IsSet() {
		t.Notify()
	}
}

func (l *Listener) slowBody(r *http.Request) {
	l.overLimit(&l.traffic.slow, "a request's body came too slowly", r.RemoteAddr)
}

// overLimit counts a client that was over a bound. The log has a line for the
// first, and then at most one in each warnApart.
func (l *Listener) overLimit(n *atomic.Uint64, what, from string) {
	sum, now, before := n.Add(1), time.Now().UnixNano(), l.warned.Load()
	if now-before >= int64(warnApart) && l.warned.CompareAndSwap(before, now) {
		l.log.Warn("worker: "+what, "from", from, "so_far", sum)
	}
}

// serve runs one of the servers on one source of connections until that ends.
func (l *Listener) serve(s server, from net.Listener) {
	if l.handshake != nil {
		from = tls.NewListener(from, l.handshake)
	}
	l.serving.Go(func() {
		err := s.Serve(from)
		if !errors.Is(err, net.ErrClosed) && !errors.Is(err, http.ErrServerClosed) {
			l.log.Error("worker: serving ended", "error", err)
		}
	})
}

// Add serves a listening socket too, and takes it over. One that is served already is closed: a
// master that lost its connection to us may hand over the same socket again.
func (l *Listener) Add(s Socket, paused bool) error {
	a, err := newAcceptor(s, l.trackAccepted, l.log)
	if err != nil {
		s.Close()
		return err
	}
	a.limits = l.limits
	for _, known := range l.sockets {
		if known.id == a.id {
			return a.Close()
		}
	}
	l.sockets = append(l.sockets, a)
	if paused {
		a.pause()
	}
	l.serve(l.public, a)
	return nil
}

// Pause stops accepting. It returns when all that was accepted is counted.
func (l *Listener) Pause() {
	for _, a := range l.sockets {
		a.pause()
	}
}

// Resume accepts again.
func (l *Listener) Resume() {
	for _, a := range l.sockets {
		a.resume()
	}
}

// Shut closes our descriptors, after it has taken what is queued if it is to.
// What arrives later stays in the socket, which the master holds.
func (l *Listener) Shut(take bool) {
	for _, a := range l.sockets {
		a.pause()
		var taken []net.Conn
		if take {
			var err error
			if taken, err = a.take(); err != nil {
				l.log.Error("worker: the queue could not be emptied before closing", "address", a.Addr().String(), "error", err)
			}
		}
		a.Close()
		for _, c := range taken {
			l.enqueue(l.injected, c)
		}
	}
	l.sockets = nil
	if l.rotator != nil {
		l.rotator.Finish()
	}
}

// ServeConn serves a client's connection that the master has passed.
func (l *Listener) ServeConn(c net.Conn) {
	if g := l.track(c); g != nil {
		l.enqueue(l.injected, g)
	}
}

// ServeProbe serves a health check's connection; with an error it is closed.
func (l *Listener) ServeProbe(c net.Conn) error {
	if n := l.traffic.Probes.Len(); n >= MaxProbes {
		c.Close()
		return fmt.Errorf("%d health checks are open already, close some", n)
	}
	l.enqueue(l.probes, l.traffic.Probes.trackProbe(c))
	return nil
}

// enqueue has a server take a connection that was not accepted for it. It does not
// wait: functions of the program's (an http.Server's ConnContext is one) can hold up
// net/http where it accepts.
func (l *Listener) enqueue(to connSink, c net.Conn) {
	if l.rotator != nil { // a queue, and what follows on it must find it there
		to.Put(c)
		return
	}
	l.serving.Go(func() { to.Put(c) })
}

// Close ends the servers with whatever is still open. It does not wait: serving ends
// when the last of them has returned.
func (l *Listener) Close() {
	for _, a := range l.sockets {
		a.Close()
	}
	l.serving.Go(func() {
		l.injected.Close()
		l.probes.Close()
		l.public.Close() // net/http's waits for hooks of the program's
		l.probe.Close()
	})
}

// Wait returns when the last server has returned. Functions of the program's can hold that
// up for ever.
func (l *Listener) Wait() { l.serving.Wait() }

// Bound tells whether it has a socket to accept from.
func (l *Listener) Bound() bool { return len(l.sockets) > 0 }
