package serve

import (
	"context"
	"net"
	"net/http"
	"runtime/debug"
	"time"

	"github.com/masterd/masterd/pkg/ipc"
	"github.com/masterd/masterd/pkg/worker/internal/migrate"
)

// What a listener does with connections that another worker has served.

// TakeIdle serves a connection that came between two requests.
func (l *Listener) TakeIdle(c net.Conn) { l.holdIdle(l.trackMigrated(c)) }

// TakeHandedOff serves a connection that the other program's handler has handed off.
func (l *Listener) TakeHandedOff(k *migrate.Kind, c net.Conn, o ipc.Offer) {
	l.serveHandedOff(k, l.trackMigrated(c), o)
}

// holdIdle keeps a connection that came between two requests until its next one
// begins, and only then gives it to the server: net/http would give it the time
// for the headers of a first request, not the time for being idle, and would
// hold buffers for it.
func (l *Listener) holdIdle(c net.Conn) {
	m := migrate.Of(c)
	if m == nil {
		l.enqueue(l.injected, c)
		return
	}
	idle := l.idleTimeout()
	l.serving.Go(func() {
		if m.AwaitRequest(idle) {
			l.injected.Put(c)
		} else {
			c.Close() // it has moved, was idle for too long, or was cut
		}
	})
}

// idleTimeout is how long net/http lets a connection be idle.
func (l *Listener) idleTimeout() time.Duration {
	s := l.public.(*http.Server) // only what net/http serves moves
	if s.IdleTimeout != 0 {
		return s.IdleTimeout
	}
	return s.ReadTimeout
}

// serveHandedOff serves a connection that was handed off.
func (l *Listener) serveHandedOff(k *migrate.Kind, c net.Conn, o ipc.Offer) {
	if m := migrate.Of(c); m != nil {
		m.Resume(o.Unread)
	}
	l.requestBegun()
	l.serving.Go(func() {
		ctx, cancel := context.WithCancel(WithSignal(l.traffic.ctx, l.traffic.Leaving))
		defer l.requestEnded()
		defer c.Close()
		defer cancel()
		defer func() {
			// As net/http does: one connection's bug is not the others' end.
			if why := recover(); why != nil && why != http.ErrAbortHandler {
				l.log.Error("worker: panic serving a connection that was handed off",
					"kind", o.Kind, "panic", why, "stack", string(debug.Stack()))
			}
		}()
		k.Serve(ctx, c, o)
	})
}
