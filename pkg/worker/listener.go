package worker

import (
	"errors"
	"net/http"
	"time"

	"github.com/masterd/masterd/pkg/worker/internal/serve"
)

// ListenerOption changes how one listener is served.
type ListenerOption func(*serve.Config)

// Address is what the listener binds when nobody hands it a socket:
// "127.0.0.1:8080", ":0", "tcp://[::1]:8080" or "unix:///run/app.sock".
func Address(address string) ListenerOption {
	return func(l *serve.Config) { l.Address = address }
}

// TLS serves TLS, with HTTP/2, from these PEM files. They are looked at again
// with a handshake, at most once a second: a certificate that was renewed is
// served without a rollover. Files that cannot be read then leave the last good
// pair in place, and are logged.
func TLS(certFile, keyFile string) ListenerOption {
	return func(l *serve.Config) { l.TLS, l.CertFile, l.KeyFile = true, certFile, keyFile }
}

// H2C also takes HTTP/2 without TLS from clients that begin with it (prior
// knowledge).
func H2C() ListenerOption {
	return func(l *serve.Config) { l.H2C = true }
}

// Server lets fn change the listener's http.Server before it serves: time-outs,
// limits, ErrorLog, TLSConfig, ConnState. Its Handler is the one given to
// Handle whatever fn sets, and fn is called twice: health checks are served by
// a second server of the same make, so that they are not counted as clients.
func Server(fn func(*http.Server)) ListenerOption {
	return func(l *serve.Config) {
		if fn != nil {
			l.Adjust = append(l.Adjust, fn)
		}
	}
}

// DefaultBodyGrace is MinBodyRate's grace where none is given.
const DefaultBodyGrace = 10 * time.Second

// ErrSlowBody is what reading a request's body returns when its client was slower
// than [MinBodyRate].
var ErrSlowBody = errors.New("the client sends the request's body too slowly")

// MinBodyRate bounds how long clients may take to send the bodies of requests; zero,
// the default: nothing does, since whatever ends a slow upload ends one that could have
// been kept. A client may be silent for grace (none: [DefaultBodyGrace]) in all, and wins back a
// second for every bytesPerSecond that come, up to grace again. Only the time counts
// in which the body is waited for: a handler that reads slowly costs its client
// nothing. Who is too slow has [ErrSlowBody] read from the body; the handler answers
// as it likes, and an HTTP/1 connection is closed after that. A body that the
// handler does not read is bounded too, as far as net/http reads it.
//
// Answers that a client reads slowly are not bounded by this: set WriteTimeout by
// [Server], or a deadline before each write with [http.ResponseController].
func MinBodyRate(bytesPerSecond int, grace time.Duration) ListenerOption {
	if grace <= 0 {
		grace = DefaultBodyGrace
	}
	return func(l *serve.Config) {
		grace := min(grace, serve.MaxBodyGrace)
		l.BodyRate = serve.BodyRate{PerSecond: max(0, bytesPerSecond), Grace: grace, Err: ErrSlowBody}
	}
}

// MaxConns bounds how many connections of clients the listener has open in this
// process; zero, the default: nothing does. Over it nothing more is accepted until one
// has ended: who comes waits in the kernel's queue, and is served late but not refused.
// (Each of its sockets may take one more, if it waits for one while others fill the
// listener.) Idle connections count, so that one client can keep all others waiting:
// give [MaxConnsPerAddress] too.
//
// Connections that another worker hands over, that the master passes, or that a drain
// takes from a queue which is about to close, are counted and never held back: there
// is nowhere else where they could wait. While two versions run each counts its own.
func MaxConns(n int) ListenerOption {
	return func(l *serve.Config) { l.MaxConns = n }
}

// MaxConnsPerAddress bounds how many connections one client address has open on
// the listener in this process; zero, the default: nothing does. An IPv6 client has as
// many addresses as it likes, so there the first 64 bits count as one. One more is
// reset as soon as it is accepted, before TLS and without a goroutine: it shall not
// wait in the queue, where all others stand behind it.
//
// A connection that is open is never closed for it: one that another worker hands
// over is counted and kept, and its address gets no new one until it is below the bound.
// Clients behind one load balancer, proxy or NAT are one address. Unix sockets have none.
func MaxConnsPerAddress(n int) ListenerOption {
	return func(l *serve.Config) { l.MaxPerAddress = n }
}
