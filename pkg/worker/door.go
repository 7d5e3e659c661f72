package worker

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// maxProbes is how many health checks one worker serves at one time; a master
// that does not close them is told so instead of being given descriptors.
const maxProbes = 64

// warnApart is between two lines of the log about clients that are over a bound.
const warnApart = time.Minute

// door is a listener being served: the sockets that clients come from, and two
// servers, one for them and one for the master's health checks.
type door struct {
	*listener
	log      *slog.Logger
	traffic  *traffic
	handover *handover // nil: its connections cannot move
	caps     *caps     // nil: nothing bounds how many there are
	warned   atomic.Int64

	public, probe server
	handshake     *tls.Config // nil without TLS; the servers change their own copies
	passed        intake      // clients that came by another way
	checks        intake
	own           *shifts     // public and passed, when the listener is served by Serve; else nil
	sockets       []*acceptor // of the life's goroutine alone
	serving       sync.WaitGroup
}

// server is what serves: net/http's, or the program's own behind shifts.
type server interface {
	// Serve takes connections from one source until that ends.
	Serve(from net.Listener) error
	Close() error
}

// intake takes connections that were accepted elsewhere.
type intake interface {
	put(net.Conn)
	Close() error
}

// open makes the servers and serves what is passed. No socket is needed yet.
func (l *listener) open(t *traffic, h *handover, log *slog.Logger) (*door, error) {
	if l.make != nil {
		return l.openOwn(t, log), nil
	}
	var certs *certificate
	if l.tls {
		var err error
		if certs, err = loadCertificate(l.certFile, l.keyFile, log); err != nil {
			return nil, fmt.Errorf("listener %q: %w", l.name, err)
		}
	}
	log = log.With("listener", l.name)
	public, probe := l.server(certs, log), l.server(certs, log)
	passed, checks := newHandIn(), newHandIn()
	d := &door{listener: l, log: log, traffic: t, public: public, probe: probe, passed: passed, checks: checks, caps: newCaps(l.maxConns, l.maxPerAddress)}
	if l.tls {
		if public.TLSConfig == nil {
			return nil, fmt.Errorf("listener %q: worker.TLS was asked for, but worker.Server took the TLSConfig away", l.name)
		}
		d.handshake = public.TLSConfig.Clone()
	} else {
		d.handover = h
	}
	gateHTTP2(public, t.partings)
	hookStates(public)
	if d.handshake != nil && public.TLSNextProto[protoH2] == nil {
		// The program wants none; a client must not be offered it.
		d.handshake.NextProtos = slices.DeleteFunc(d.handshake.NextProtos, func(p string) bool { return p == protoH2 })
	}
	public.Handler = &counted{next: l.handler, t: t, parting: d.parting, rate: l.bodyRate, slow: d.slowBody}
	probe.Handler = l.handler
	for _, s := range []*http.Server{public, probe} {
		s.BaseContext = withNotice(s.BaseContext, t.leaving)
	}
	d.serve(public, passed)
	d.serve(probe, checks)
	return d, nil
}

func withNotice(base func(net.Listener) context.Context, n *notice) func(net.Listener) context.Context {
	return func(ln net.Listener) context.Context {
		ctx := context.Background()
		if base != nil {
			ctx = base(ln)
		}
		return context.WithValue(ctx, noticeKey{}, n)
	}
}

// hookStates lets connections know what the server does with them.
func hookStates(s *http.Server) {
	next := s.ConnState
	s.ConnState = func(c net.Conn, state http.ConnState) {
		if g, ok := c.(interface{ beneath() net.Conn }); ok {
			c = g.beneath()
		}
		base := c
		if t, ok := c.(*tls.Conn); ok {
			base = t.NetConn()
		}
		if base, ok := base.(guest); ok {
			if m := base.move(); m != nil {
				m.hook(state)
			}
		}
		if next != nil {
			next(c, state)
		}
	}
}

// moves: connections can come here from other workers, and go to them.
func (d *door) moves() bool { return d.handover != nil }

// parting: an answer shall say that it is the connection's last.
func (d *door) parting() bool {
	if !d.traffic.leaving.given() {
		return false
	}
	return !d.moves() || d.handover.parting(d.traffic.leaving, d.name)
}

// admit counts a client's connection that is new; nil: its address has too many, and
// it is closed.
func (d *door) admit(c net.Conn) guest {
	s, ok := d.caps.sit(c, true)
	if !ok {
		reset(c)
		d.overLimit(&d.traffic.refused, "connections of an address that has too many are reset", c.RemoteAddr().String())
		return nil
	}
	return d.traffic.clients.admit(c, d.name, d.handover, s)
}

// adopt counts a client's connection that another worker has served.
func (d *door) adopt(c net.Conn) guest {
	s, _ := d.caps.sit(c, false)
	return d.traffic.clients.admit(c, d.name, d.handover, s)
}

func (d *door) slowBody(r *http.Request) {
	d.overLimit(&d.traffic.slow, "a request's body came too slowly", r.RemoteAddr)
}

// overLimit counts a client that was over a bound. The log has a line for the
// first, and then at most one in each warnApart.
func (d *door) overLimit(n *atomic.Uint64, what, from string) {
	sum, now, before := n.Add(1), time.Now().UnixNano(), d.warned.Load()
	if now-before >= int64(warnApart) && d.warned.CompareAndSwap(before, now) {
		d.log.Warn("worker: "+what, "from", from, "so_far", sum)
	}
}

// serve runs one of the servers on one source of connections until that ends.
func (d *door) serve(s server, from net.Listener) {
	if d.handshake != nil {
		from = tls.NewListener(from, d.handshake)
	}
	d.serving.Go(func() {
		err := s.Serve(from)
		if !errors.Is(err, net.ErrClosed) && !errors.Is(err, http.ErrServerClosed) {
			d.log.Error("worker: serving ended", "error", err)
		}
	})
}

// add serves a listening socket too. One that is served already is closed: a
// master that lost its connection to us may hand over the same socket again.
func (d *door) add(s socket, paused bool) error {
	a, err := newAcceptor(s, func(c net.Conn) net.Conn { return d.admit(c) }, d.log)
	if err != nil {
		s.Close()
		return err
	}
	a.caps = d.caps
	for _, known := range d.sockets {
		if known.id == a.id {
			return a.Close()
		}
	}
	d.sockets = append(d.sockets, a)
	if paused {
		a.pause()
	}
	d.serve(d.public, a)
	return nil
}

func (d *door) pause() {
	for _, a := range d.sockets {
		a.pause()
	}
}

func (d *door) resume() {
	for _, a := range d.sockets {
		a.resume()
	}
}

// shut closes our descriptors, after it has taken what is queued if it is to.
// What arrives later stays in the socket, which the master holds.
func (d *door) shut(take bool) {
	for _, a := range d.sockets {
		a.pause()
		var taken []net.Conn
		if take {
			var err error
			if taken, err = a.take(); err != nil {
				d.log.Error("worker: the queue could not be emptied before closing", "address", a.Addr().String(), "error", err)
			}
		}
		a.Close()
		for _, c := range taken {
			d.deliver(d.passed, c)
		}
	}
	d.sockets = nil
	if d.own != nil {
		d.own.finish()
	}
}

// pass serves a client's connection that came by another way.
func (d *door) pass(c net.Conn) {
	if g := d.admit(c); g != nil {
		d.deliver(d.passed, g)
	}
}

// check serves a health check's connection.
func (d *door) check(c net.Conn) error {
	if n := d.traffic.probes.open(); n >= maxProbes {
		c.Close()
		return fmt.Errorf("%d health checks are open already, close some", n)
	}
	d.deliver(d.checks, d.traffic.probes.admitProbe(c))
	return nil
}

// deliver has a server take a connection that was not accepted for it. It does not
// wait: functions of the program's (an http.Server's ConnContext is one) can hold up
// net/http where it accepts.
func (d *door) deliver(to intake, c net.Conn) {
	if d.own != nil { // a queue, and what follows on it must find it there
		to.put(c)
		return
	}
	d.serving.Go(func() { to.put(c) })
}

// close ends the servers with whatever is still open. It does not wait: serving ends
// when the last of them has returned.
func (d *door) close() {
	for _, a := range d.sockets {
		a.Close()
	}
	d.serving.Go(func() {
		d.passed.Close()
		d.checks.Close()
		d.public.Close() // net/http's waits for hooks of the program's
		d.probe.Close()
	})
}
