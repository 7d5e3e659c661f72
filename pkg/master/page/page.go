// Package page serves the live page: what status shows, in a browser, as it changes.
//
// It is answered by the master on a loopback address and nowhere else. Who asks for it by the admin
// socket gets a URL with a token that is good for one use; the browser that brings it gets a session
// in that person's name. Without a session nothing is answered. A browser is hostile: other pages in
// it, and names that somebody has made lead here, get nothing (see routes.go).
//
// All streams are told by one goroutine, which looks at the master only while there are some. A page
// that does not read is dropped and comes back by itself. Nothing here outlives the master: another
// one has no sessions.
package page

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/pkg/master/recent"
)

const (
	// anyPort is where the page is served that has no address in the configuration.
	anyPort = "127.0.0.1:0"
	// unused is how long nobody has to look for such a page to be closed.
	unused    = 10 * time.Minute
	bindAgain = time.Second // between two attempts to have the configured address
	// patience is how long that may be another's before it is told: in an upgrade it is the
	// master's before.
	patience = 10 * time.Second
)

// Source is what there is to see. All of it may be called from any goroutine but the loop's.
type Source struct {
	Status  func() api.Status
	Recent  func(since time.Time) []recent.Point     // that are later
	History func(n int) Reader                       // of the last n entries, and what follows
	Lines   func(worker uint64, n int) []api.LogLine // the last of a worker's output
}

// Reader is [history.Reader].
type Reader interface {
	// Next returns what has come since it was called last, oldest first. more is closed when there is more.
	Next() (entries []api.Entry, more <-chan struct{})
}

// Person is who has asked for the page, as the admin socket knows them.
type Person interface {
	May() (look, change bool) // now
	// Act asks for "promote" (with all: everything), "abort", "rollback" or "hold". The stream is
	// stages, one outcome, closed.
	Act(do string, all bool, why string) (<-chan api.Event, error)
}

// Options are all that a Server needs.
type Options struct {
	Source  Source
	Address string // HOST:PORT that is kept; empty: any port, for as long as somebody looks
	Version string // of masterd
	Log     *zap.Logger
	Listen  func(address string) (net.Listener, error) // nil: TCP
}

// Server serves the page when it is asked for. Whatever happens to it, the service goes on.
type Server struct {
	o      Options
	log    *zap.Logger
	woken  chan struct{} // holds that something has changed
	ending chan struct{} // closed by Close
	done   sync.WaitGroup

	mu      sync.Mutex
	closed  bool
	site    *site // nil: nobody listens
	trouble error // why not, where an address is configured
}

// New makes a server that does nothing yet.
func New(o Options) *Server {
	if o.Listen == nil {
		o.Listen = func(address string) (net.Listener, error) { return net.Listen("tcp", address) }
	}
	return &Server{o: o, log: o.Log, woken: make(chan struct{}, 1), ending: make(chan struct{}),
		trouble: errors.New("it was not tried yet")}
}

// Keep begins to serve the page on the configured address, if there is one. One that is taken is tried
// again until it is free.
func (s *Server) Keep() {
	if s.o.Address != "" {
		s.done.Go(s.keep)
	}
}

func (s *Server) keep() {
	for begun, warned := time.Now(), false; ; {
		ln, err := s.o.Listen(s.o.Address)
		s.mu.Lock()
		switch s.trouble = err; {
		case s.closed && err == nil:
			_ = ln.Close()
		case err == nil:
			s.begin(ln)
		}
		ended := err == nil || s.closed
		s.mu.Unlock()
		if ended {
			return
		}
		if !warned && time.Since(begun) >= patience {
			warned = true
			s.log.Warn("the page cannot be served; trying on", zap.String("address", s.o.Address), zap.Error(err))
		}
		select {
		case <-s.ending:
			return
		case <-time.After(bindAgain):
		}
	}
}

// Open says where a person finds the page, and has it served if it is not. From a page that is to act
// they may change what they may change by the socket.
func (s *Server) Open(p Person, act bool) (api.Page, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return api.Page{}, &api.Problem{Status: http.StatusServiceUnavailable, Message: "The master is ending."}
	}
	if s.site == nil {
		if err := s.openAny(); err != nil {
			return api.Page{}, &api.Problem{Status: http.StatusServiceUnavailable, Message: err.Error()}
		}
	}
	token, until := s.site.passes.issue(p, act)
	return api.Page{URL: "http://" + s.site.host + "/?token=" + token, Until: until}, nil
}

// openAny serves the page on any port, unless it has one of its own; mu is held.
func (s *Server) openAny() error {
	if s.o.Address != "" {
		return fmt.Errorf("the page is not served on %s: %w; free the address of admin.page, it is tried again each second",
			s.o.Address, s.trouble)
	}
	ln, err := s.o.Listen(anyPort)
	if err != nil {
		return fmt.Errorf("opening a port for the page: %w; the service is not affected", err)
	}
	s.begin(ln)
	return nil
}

// begin serves the page to those who come by a listener; mu is held.
func (s *Server) begin(ln net.Listener) {
	s.site = newSite(s, ln)
	s.log.Info("the page is served", zap.String("address", s.site.host))
	s.done.Go(s.site.run)
}

// end forgets a site that nobody uses, and reports whether it did. One whose address is configured
// stays.
func (s *Server) end(t *site) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.o.Address != "" || t.passes.used() {
		return false
	}
	s.site = nil
	s.log.Info("the page is closed: nobody has looked for a while", zap.String("address", t.host))
	return true
}

// Wake tells that something may have changed. It never waits.
func (s *Server) Wake() {
	select {
	case s.woken <- struct{}{}:
	default:
	}
}

// Close ends it. Streams and answers under way are cut: nobody waits for a browser.
func (s *Server) Close() {
	s.mu.Lock()
	if !s.closed {
		s.closed = true
		close(s.ending)
	}
	s.mu.Unlock()
	s.done.Wait()
}
