package metrics

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"go.uber.org/zap"
	"golang.org/x/net/netutil"
)

// Bounds of the server.
const (
	maxConns      = 16               // open at one time; others wait
	headerTimeout = 5 * time.Second  // for a request's headers
	writeTimeout  = 15 * time.Second // for a whole answer
	idleTimeout   = 75 * time.Second // between two scrapes; the usual interval is 15 s to a minute
	maxHeader     = 8 << 10          // bytes
	bindAgain     = time.Second      // between two attempts to have the address
	// patience is how long an address may be another's before that is told: in an upgrade it is
	// the master's before.
	patience = 10 * time.Second
)

// Server answers scrapes on a TCP address of its own. Whatever happens to it, the service goes
// on: an address that is taken is tried again until it is free.
type Server struct {
	log    *zap.Logger
	http   *http.Server
	ending context.CancelFunc
	done   sync.WaitGroup

	mu      sync.Mutex
	trouble error // why nobody is answered; nil: they are
}

// Serve begins to answer on HOST:PORT; empty: on none, and the Server does nothing.
func Serve(address string, h http.Handler, log *zap.Logger) *Server {
	ctx, cancel := context.WithCancel(context.Background())
	s := &Server{log: log, ending: cancel, http: &http.Server{
		Handler: routes(h), ReadHeaderTimeout: headerTimeout, ReadTimeout: headerTimeout, WriteTimeout: writeTimeout,
		IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeader, ErrorLog: zap.NewStdLog(zap.NewNop()),
	}}
	if address != "" {
		s.done.Go(func() { s.run(ctx, address) })
	}
	return s
}

// routes are all that is answered to whoever reaches the address.
func routes(h http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", h)
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "masterd: what there is to see here is at /metrics.\n")
	})
	return mux
}

func (s *Server) run(ctx context.Context, address string) {
	for begun := time.Now(); ; {
		ln, err := net.Listen("tcp", address)
		if err == nil {
			if s.set(nil) {
				s.log.Info("metrics are served", zap.String("address", address))
			}
			err = s.http.Serve(netutil.LimitListener(ln, maxConns))
			if errors.Is(err, http.ErrServerClosed) {
				return
			}
			begun = time.Now()
		}
		if time.Since(begun) >= patience && s.set(err) {
			s.log.Warn("metrics cannot be served; trying on", zap.String("address", address), zap.Error(err))
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(bindAgain):
		}
	}
}

// set notes why nobody is answered, and reports whether that is news.
func (s *Server) set(err error) (news bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	news = (s.trouble == nil) != (err == nil)
	s.trouble = err
	return news
}

// Trouble is why nobody is answered; nil: they are, or nobody is to be.
func (s *Server) Trouble() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.trouble
}

// Close ends it. Scrapes under way are cut: the next is not far.
func (s *Server) Close() {
	s.ending()
	s.http.Close()
	s.done.Wait()
}
