package page

import (
	"context"
	"errors"
	"net"
	"net/http"
	"runtime/debug"
	"sync"
	"time"

	"go.uber.org/zap"
	"golang.org/x/net/netutil"
)

// Bounds of the server.
const (
	maxConns      = 64               // open at one time; others wait
	headerTimeout = 5 * time.Second  // for a request's headers, and for its body
	writeTimeout  = 15 * time.Second // for a whole answer that is no stream
	idleTimeout   = time.Minute      // between two requests
	maxHeader     = 8 << 10          // bytes
)

// site is the page while somebody listens for it.
type site struct {
	s      *Server
	ln     net.Listener
	host   string // that it is asked by
	port   string
	http   *http.Server
	life   context.Context
	end    context.CancelFunc
	passes *passes
	feed   *feed

	gate     sync.Mutex // orders requests.Add before requests.Wait
	requests sync.WaitGroup
}

func newSite(s *Server, ln net.Listener) *site {
	t := &site{s: s, ln: ln, host: ln.Addr().String(), feed: newFeed(s)}
	_, t.port, _ = net.SplitHostPort(t.host)
	t.life, t.end = context.WithCancel(context.Background())
	t.passes = newPasses(t.life)
	t.http = &http.Server{
		Handler: http.HandlerFunc(t.serve), ReadHeaderTimeout: headerTimeout, WriteTimeout: writeTimeout,
		IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeader, ErrorLog: zap.NewStdLog(zap.NewNop()),
		BaseContext: func(net.Listener) context.Context { return t.life },
	}
	return t
}

// run serves until the server is closed or nobody has looked for a while.
func (t *site) run() {
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := t.http.Serve(netutil.LimitListener(t.ln, maxConns)); !errors.Is(err, http.ErrServerClosed) {
			t.s.log.Error("the page takes no more connections; the service itself is not affected", zap.Error(err))
		}
	})
	serving.Go(func() { t.feed.run(t.life) })
	t.wait()
	t.gate.Lock()
	t.end() // all that waits does so for this, too
	t.gate.Unlock()
	_ = t.http.Close()
	serving.Wait()
	t.requests.Wait()
}

// wait returns when the site is to end.
func (t *site) wait() {
	idle := time.NewTimer(unused)
	defer idle.Stop()
	for {
		select {
		case <-t.s.ending:
			return
		case <-idle.C:
			if t.s.end(t) {
				return
			}
			if t.s.o.Address == "" {
				idle.Reset(max(t.passes.idleIn(), time.Second))
			}
		}
	}
}

// serve keeps the site from ending under a request, and the master from a bug in its answer.
func (t *site) serve(w http.ResponseWriter, r *http.Request) {
	t.gate.Lock()
	ended := t.life.Err() != nil
	if !ended {
		t.requests.Add(1)
	}
	t.gate.Unlock()
	if ended {
		return
	}
	defer t.requests.Done()
	defer t.s.survive()
	t.answer(w, r)
}

// survive ends a panic: no page may end the service.
func (s *Server) survive() {
	if r := recover(); r != nil {
		s.log.Error("the page met a bug in masterd; please report it", zap.Any("panic", r),
			zap.ByteString("stack", debug.Stack()))
	}
}
