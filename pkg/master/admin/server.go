package admin

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/pkg/ipc"
	"github.com/masterd/masterd/pkg/ipc/fdpass"
)

// Bounds on one connection.
const (
	headerTimeout = 5 * time.Second  // for a request's headers, from the connection on or from their first byte
	bodyTimeout   = 10 * time.Second // for a request's body
	writeTimeout  = 10 * time.Second // for a whole short answer, or one line of a stream
	idleTimeout   = 60 * time.Second // between two requests
	lastWait      = 2 * time.Second  // for a handler that does not notice the end
	maxHeader     = 8 << 10          // bytes; net/http allows 4096 more
	// maxPath is the longest path a Unix socket can have, in bytes.
	maxPath = 107
)

// Options are all that a Server needs.
type Options struct {
	Path    string // of the socket; what lies there is removed if it is a socket
	Backend Backend
	Metrics http.Handler // answers Prometheus
	// Page opens the page for a person, to act from there or to look.
	Page func(p *Person, act bool) (api.Page, error)
	Log  *zap.Logger

	Service        string // its name, for sentences
	Environment    string // "production": stop wants the service's name
	ReadersGroup   string // by name or number; empty: none
	OperatorsGroup string
	MasterUID      int // the master's own user, who may do everything
}

// Server answers operators until it is closed.
type Server struct {
	o      Options
	log    *zap.Logger
	peer   func(*net.UnixConn) (ipc.Cred, error)
	access atomic.Pointer[access]
	crowd  crowd
	http   *http.Server

	ending   chan struct{} // closed when Close begins: nobody follows logs any longer
	end      func()
	serving  sync.WaitGroup // Serve's goroutine
	requests sync.WaitGroup // being answered
	gate     sync.Mutex     // orders requests.Add before requests.Wait
	closed   bool           // guarded by gate, as the three that follow
	socket   *net.UnixListener
	before   *net.UnixListener // the socket before it, whose queue is still taken; nil: none
	named    fdpass.Named
}

// Listen makes the socket and begins to answer. The caller holds the service's
// lock: a socket found at o.Path was left behind by a dead master and is
// removed. Errors name the path or the group that is at fault.
func Listen(o Options) (*Server, error) { return listen(o, ipc.PeerCred) }

func listen(o Options, peer func(*net.UnixConn) (ipc.Cred, error)) (*Server, error) {
	s := &Server{o: o, log: o.Log, peer: peer, ending: make(chan struct{}), crowd: crowd{conns: map[*conn]bool{}}}
	s.end = sync.OnceFunc(func() { close(s.ending) })
	a, err := newAccess(o)
	if err != nil {
		return nil, err
	}
	s.access.Store(a)
	if s.socket, s.named, err = bind(o.Path, fs.FileMode(a.mode())); err != nil {
		return nil, err
	}
	s.http = &http.Server{
		Handler:           s.routes(),
		ReadHeaderTimeout: headerTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          zap.NewStdLog(zap.NewNop()), // garbage is counted, not logged
		ConnState:         s.answered,
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, peerKey{}, c)
		},
	}
	s.serve(s.socket)
	return s, nil
}

// serve answers those who come by a socket until that is closed.
func (s *Server) serve(socket *net.UnixListener) {
	s.serving.Go(func() {
		if err := s.http.Serve(door{socket, s}); !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
			s.log.Error("the admin API no longer accepts connections; the service itself is not affected", zap.Error(err))
		}
	})
}

// Mend makes the socket again if its name is gone or not ours. Connections that
// there are go on.
func (s *Server) Mend() (mended bool, err error) {
	s.gate.Lock()
	defer s.gate.Unlock()
	if s.closed {
		return false, nil
	}
	if s.named.Found() {
		return false, nil
	}
	socket, named, err := bind(s.o.Path, fs.FileMode(s.access.Load().mode()))
	if err != nil {
		return false, err
	}
	s.closeBefore()
	s.before, s.socket, s.named = s.socket, socket, named
	s.before.SetUnlinkOnClose(false)
	s.serve(socket)
	return true, nil
}

// closeBefore closes the socket that nobody comes by any more; gate is held.
func (s *Server) closeBefore() {
	if s.before != nil {
		_ = fdpass.CloseInTime(s.before.Close)
	}
}

// bind makes the socket. Until its mode is set the umask decides who gets in,
// which the check of each peer makes harmless.
func bind(path string, mode fs.FileMode) (l *net.UnixListener, name fdpass.Named, err error) {
	if len(path) > maxPath {
		return nil, name, fmt.Errorf("the admin socket %s: its path is %d bytes long and a Unix socket's can be %d; set a shorter runtime_dir", path, len(path), maxPath)
	}
	switch old, err := os.Lstat(path); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, name, fmt.Errorf("the admin socket: %w", err)
	case old.Mode().Type() != fs.ModeSocket:
		return nil, name, fmt.Errorf("the admin socket %s: there is something that is not a socket; move it away, or set another runtime_dir", path)
	default:
		if err := os.Remove(path); err != nil {
			return nil, name, fmt.Errorf("removing the admin socket that a dead master left behind: %w", err)
		}
	}
	l, err = net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, name, fmt.Errorf("making the admin socket: %w", err)
	}
	if err := os.Chmod(path, mode); err != nil {
		l.Close()
		return nil, name, fmt.Errorf("the admin socket: %w", err)
	}
	return l, fdpass.Name(path), nil
}

// SetAccess takes over other groups and another environment, for connections
// that are open too. On error all stays as it was.
func (s *Server) SetAccess(environment, readersGroup, operatorsGroup string) error {
	o := s.o
	o.Environment, o.ReadersGroup, o.OperatorsGroup = environment, readersGroup, operatorsGroup
	a, err := newAccess(o)
	if err != nil {
		return err
	}
	if _, err := s.Mend(); err != nil { // or there is nothing to give a mode
		return err
	}
	if err := os.Chmod(s.o.Path, fs.FileMode(a.mode())); err != nil {
		return fmt.Errorf("the admin socket: %w", err)
	}
	s.access.Store(a)
	return nil
}

// Counts tells how many came and how many were turned away.
func (s *Server) Counts() (n Counts) {
	s.crowd.count(func(c *Counts) { n = *c })
	return n
}

// Close removes the socket, lets requests under way be answered until ctx ends,
// then closes every connection and waits for those who were being answered.
// Following logs ends at once. Its error is ctx's, when somebody's answer was
// cut short.
func (s *Server) Close(ctx context.Context) error {
	s.gate.Lock()
	s.closed = true
	s.closeBefore()
	_ = fdpass.CloseInTime(s.socket.Close) // unlinks the path
	s.gate.Unlock()
	s.end()
	s.serving.Wait()

	answered := make(chan struct{})
	go func() {
		s.requests.Wait()
		close(answered)
	}()
	var err error
	select {
	case <-answered:
	case <-ctx.Done():
		err = fmt.Errorf("closing the admin API while requests are being answered: %w", context.Cause(ctx))
	}
	s.http.Close() // ends the requests' contexts
	// Handlers wait for nothing else, unless a file system hangs under one.
	last := time.NewTimer(lastWait)
	defer last.Stop()
	select {
	case <-answered:
	case <-last.C:
		err = errors.Join(err, errors.New("closing the admin API: a request is stuck and is left behind"))
	}
	return err
}

// begin counts a request in, unless the server is closing.
func (s *Server) begin(c *conn) bool {
	s.gate.Lock()
	defer s.gate.Unlock()
	if s.closed {
		return false
	}
	s.requests.Add(1)
	c.asked.Store(true)
	return true
}

// answered counts it out, when net/http has written all of the answer: a
// handler that has returned has not yet.
func (s *Server) answered(c net.Conn, state http.ConnState) {
	if state != http.StateIdle && state != http.StateClosed {
		return
	}
	if c.(*conn).asked.Swap(false) {
		s.requests.Done()
	}
}
