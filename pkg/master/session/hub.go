package session

import (
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/masterd/masterd/pkg/ipc"
	"github.com/masterd/masterd/pkg/ipc/fdpass"
)

// socketMode: only the workers' user may connect; the kernel refuses all others.
// openMode is for while workers of several users are to come, see let.
const (
	socketMode = 0o600
	openMode   = 0o666
)

// Options of a Hub.
type Options struct {
	Path string      // of the control socket; its directory exists, at most ipc.MaxPath bytes
	Log  *zap.Logger // nil: none
	// Later leaves those who connect waiting until [Hub.Begin]: a master that has
	// workers to adopt expects them first, so that it refuses none of its own.
	Later bool
	// Refused is told of each connection that was refused, with one of the
	// Refused… constants; nil: nobody is. Called by several goroutines at once.
	Refused func(reason string)

	helloTimeout time.Duration // zero: as the constant; tests make it longer
}

// Expect describes a worker before its process exists.
type Expect struct {
	Worker     uint64
	Generation uint64
	Secret     string      // what it will prove itself with, see NewSecret
	SecretHash string      // instead, of a worker that an earlier master has started: see HashSecret
	NextHash   string      // with SecretHash: of the secret that it was to have instead, and may have by now
	UID        uint32      // whom it will run as
	Welcome    ipc.Welcome // what to answer its hello with; Version is filled in
	// Fact is told what the worker says, one fact after the other. While it
	// does not return, nothing more is read from this worker.
	Fact func(Fact)
}

// Hub owns the control socket and every worker's session.
type Hub struct {
	path  string
	log   *zap.Logger
	door  door
	await time.Duration // for a hello

	closing chan struct{}
	tasks   sync.WaitGroup // the accepting goroutine and one for each connection

	mu       sync.Mutex
	socket   *ipc.Socket
	begun    bool // accept runs, or has
	closed   bool
	sessions map[uint64]*Session
	greeting map[*ipc.Link]guest // before their hello was accepted
	mode     os.FileMode         // of the socket, as last set, and
	owner    int                 // its uid
}

// Listen makes the control socket and starts to accept. The socket is the
// master's own user's until somebody is expected. A socket left by a dead master is
// removed: the caller holds the service's lock.
func Listen(o Options) (*Hub, error) {
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	if o.helloTimeout == 0 {
		o.helloTimeout = helloTimeout
	}
	socket, err := ipc.Listen(o.Path, socketMode, -1, -1)
	if err != nil {
		return nil, err
	}
	h := &Hub{
		path:     o.Path,
		socket:   socket,
		log:      o.Log,
		door:     door{log: o.Log, tell: o.Refused},
		await:    o.helloTimeout,
		closing:  make(chan struct{}),
		sessions: make(map[uint64]*Session),
		greeting: make(map[*ipc.Link]guest),
		mode:     socketMode,
		owner:    -1,
	}
	if !o.Later {
		h.Begin()
	}
	return h, nil
}

// Begin starts to accept, if [Options] left that for later. The first call counts.
func (h *Hub) Begin() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed || h.begun {
		return
	}
	h.begun = true
	h.tasks.Go(h.accept)
}

// Mend makes the socket again if its name is gone, with the owner it had. Those
// who are connected notice nothing.
func (h *Hub) Mend() (mended bool, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.mend()
}

// mend is Mend; h.mu is held.
func (h *Hub) mend() (mended bool, err error) {
	if h.closed || h.socket.Found() {
		return false, nil
	}
	socket, err := ipc.Listen(h.path, h.mode, h.owner, -1)
	if err != nil {
		return false, err
	}
	before := h.socket
	h.socket = socket
	return true, before.Replaced() // accept goes on with the new one
}

// current is the socket that is listened on.
func (h *Hub) current() *ipc.Socket {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.socket
}

// Expect makes a worker known, and opens the socket to its user. It is called before the
// process is started. A
// worker of the same id that was expected before is forgotten. After Close the
// session is one that never connects.
func (h *Hub) Expect(e Expect) *Session {
	s := newSession(e)
	s.hub = h
	h.mu.Lock()
	old := h.sessions[e.Worker]
	if !h.closed {
		h.sessions[e.Worker] = s
	}
	closed := h.closed
	h.mu.Unlock()
	if old != nil {
		old.forget()
	}
	if closed {
		s.forget()
	}
	h.let()
	return s
}

// Forget drops a worker whose process is gone, with its connection. No
// callback begins after it; one under way is not waited for, so that the
// callback may be waiting for Forget's caller. A worker that is not known is
// not an error.
func (h *Hub) Forget(worker uint64) {
	h.mu.Lock()
	s := h.sessions[worker]
	delete(h.sessions, worker)
	h.mu.Unlock()
	if s != nil {
		s.forget()
		h.let()
	}
}

// Close removes the socket, drops every connection and waits until nothing of
// the hub runs any more, callbacks included; who hangs in what a worker has sent
// is left behind. Workers serve on.
func (h *Hub) Close() error {
	h.mu.Lock()
	if h.closed {
		h.mu.Unlock()
		h.tasks.Wait()
		return nil
	}
	h.closed = true
	close(h.closing)
	for link := range h.greeting {
		_ = link.Close()
	}
	sessions := h.sessions
	h.sessions = nil
	h.mu.Unlock()

	err := h.socket.Close()
	for _, s := range sessions {
		s.forget()
	}
	_ = fdpass.CloseInTime(func() error { h.tasks.Wait(); return nil })
	if err != nil {
		return fmt.Errorf("closing the control socket: %w", err)
	}
	return nil
}

// accept takes connections until Close.
func (h *Hub) accept() {
	wait := acceptFirst
	for {
		socket := h.current()
		if now, most := fdpass.Closing(); now >= most { // whoever connects may add to it
			h.pause(crowded)
		}
		link, cred, err := socket.Accept()
		switch {
		case err == nil:
			wait = acceptFirst
			h.receive(link, cred)
			continue
		case errors.Is(err, net.ErrClosed) && h.current() != socket:
			continue
		case errors.Is(err, net.ErrClosed):
			return
		}
		h.log.Error("the control socket cannot take connections now", zap.Error(err), zap.Duration("next_try_in", wait))
		h.pause(wait)
		wait = min(2*wait, acceptMost)
	}
}

// pause waits, but not once the hub is closed.
func (h *Hub) pause(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-h.closing:
	}
}

func (h *Hub) find(worker uint64) *Session {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.sessions[worker]
}
