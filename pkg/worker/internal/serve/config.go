package serve

import (
	"crypto/tls"
	"log/slog"
	"net/http"
	"time"

	"github.com/masterd/masterd/pkg/worker/internal/rotate"
)

// Limits of every listener's server; change them with Server.
const (
	readHeaderTimeout = 10 * time.Second  // from the first byte of a request to the end of its headers
	idleTimeout       = 120 * time.Second // between two requests
	maxHeaderBytes    = 1 << 20           // bytes of one request's headers
)

// Config is what the program said of one named listener. The options of the SDK's face
// document what each field does.
type Config struct {
	Name              string
	Handler           http.Handler
	Make              func() rotate.Server // instead of the handler: makes servers of the program's own
	Address           string               // where it listens when no socket is handed to it
	TLS               bool
	CertFile, KeyFile string
	H2C               bool
	Adjust            []func(*http.Server) // called for each server that is made

	// Bounds of clients; zero: none.
	BodyRate                BodyRate
	MaxConns, MaxPerAddress int
}

// httpServer makes the listener's server; certs is nil without TLS.
func (c *Config) httpServer(certs *certificate, log *slog.Logger) *http.Server {
	s := &http.Server{
		ReadHeaderTimeout: readHeaderTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
	if c.H2C {
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
	for _, fn := range c.Adjust {
		fn(s)
	}
	return s
}
