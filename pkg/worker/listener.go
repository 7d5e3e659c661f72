package worker

import (
	"crypto/tls"
	"log/slog"
	"net/http"
	"time"
)

// Limits of every listener's server; change them with Server.
const (
	readHeaderTimeout = 10 * time.Second  // from the first byte of a request to the end of its headers
	idleTimeout       = 120 * time.Second // between two requests
	maxHeaderBytes    = 1 << 20           // bytes of one request's headers
)

// listener is what the program said of one named listener.
type listener struct {
	name              string
	handler           http.Handler
	make              func() GracefulServer // instead of the handler: Serve
	address           string
	certFile, keyFile string
	tls               bool
	h2c               bool
	adjust            []func(*http.Server)

	// Bounds of clients; zero: none.
	bodyRate                bodyRate
	maxConns, maxPerAddress int
}

// ListenerOption changes how one listener is served.
type ListenerOption func(*listener)

// Address is what the listener binds when nobody hands it a socket:
// "127.0.0.1:8080", ":0", "tcp://[::1]:8080" or "unix:///run/app.sock".
func Address(address string) ListenerOption {
	return func(l *listener) { l.address = address }
}

// TLS serves TLS, with HTTP/2, from these PEM files. They are looked at again
// with a handshake, at most once a second: a certificate that was renewed is
// served without a rollover. Files that cannot be read then leave the last good
// pair in place, and are logged.
func TLS(certFile, keyFile string) ListenerOption {
	return func(l *listener) { l.tls, l.certFile, l.keyFile = true, certFile, keyFile }
}

// H2C also takes HTTP/2 without TLS from clients that begin with it (prior
// knowledge).
func H2C() ListenerOption {
	return func(l *listener) { l.h2c = true }
}

// Server lets fn change the listener's http.Server before it serves: time-outs,
// limits, ErrorLog, TLSConfig, ConnState. Its Handler is the one given to
// Handle whatever fn sets, and fn is called twice: health checks are served by
// a second server of the same make, so that they are not counted as clients.
func Server(fn func(*http.Server)) ListenerOption {
	return func(l *listener) {
		if fn != nil {
			l.adjust = append(l.adjust, fn)
		}
	}
}

// server makes the listener's server; certs is nil without TLS.
func (l *listener) server(certs *certificate, log *slog.Logger) *http.Server {
	s := &http.Server{
		ReadHeaderTimeout: readHeaderTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
	if l.h2c {
		s.Protocols = new(http.Protocols)
		s.Protocols.SetHTTP1(true)
		s.Protocols.SetHTTP2(true)
		s.Protocols.SetUnencryptedHTTP2(true)
	}
	if certs != nil {
		s.TLSConfig = &tls.Config{
			MinVersion:     tls.VersionTLS12,
			GetCertificate: certs.get,
			// Named here because the server does not see the tls.Listener
			// being made: it would not offer HTTP/2 otherwise.
			NextProtos: []string{"h2", "http/1.1"},
		}
	}
	for _, fn := range l.adjust {
		fn(s)
	}
	return s
}
