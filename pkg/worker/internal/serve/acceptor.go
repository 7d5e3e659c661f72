package serve

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

const (
	acceptRetryFirst = 5 * time.Millisecond // after an accept that failed (no descriptors left, ...)
	acceptRetryMax   = time.Second
	rouseAfter       = 20 * time.Millisecond // for an accept to end of its deadline

	// maxTaken is how many connections a drain takes from one queue: the kernel's own limit
	// of a backlog.
	maxTaken = 1 << 16
)

// Socket is what a listening socket must be able to do: *net.TCPListener and
// *net.UnixListener can.
type Socket interface {
	net.Listener
	SetDeadline(time.Time) error
	SyscallConn() (syscall.RawConn, error)
}

// acceptor is a listening socket whose accepting can stop without closing or
// shutting down anything: the socket's open description is shared with the
// master and with siblings, and only our descriptor of it is ours. It is the
// net.Listener that http.Server.Serve gets.
type acceptor struct {
	Socket
	id     inode
	track  func(net.Conn) net.Conn // nil: it was refused
	limits *connLimits             // nil: accepting waits for no room
	log    *slog.Logger

	mu     sync.Mutex
	cond   sync.Cond // any of the flags has changed
	paused bool
	shut   bool
	inside bool // Accept is in the kernel, or has what it got there not counted yet
	wake   chan struct{}
}

func newAcceptor(s Socket, admit func(net.Conn) net.Conn, log *slog.Logger) (*acceptor, error) {
	id, err := identify(s)
	if err != nil {
		return nil, fmt.Errorf("looking at the listening socket on %s: %w", s.Addr(), err)
	}
	a := &acceptor{Socket: s, id: id, track: admit, log: log, wake: make(chan struct{})}
	a.cond.L = &a.mu
	return a, nil
}

// Accept waits for a connection while not paused. It gives up on no error but
// its own Close: a slot that was shut down by accident is mended by the master,
// and must be accepted from again then.
func (a *acceptor) Accept() (net.Conn, error) {
	retry := acceptRetryFirst
	for a.enter() {
		c, err := a.Socket.Accept()
		if err == nil {
			c = a.track(c) // before exit: what is not counted yet must not be overlooked by a drain
		}
		wake := a.exit()
		if err == nil {
			if c == nil {
				continue
			}
			return c, nil
		}
		if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, net.ErrClosed) {
			continue // paused or closed: enter knows
		}
		a.log.Warn("worker: accepting failed, trying again", "address", a.Addr().String(), "error", err, "in", retry)
		t := time.NewTimer(retry)
		select {
		case <-t.C:
		case <-wake:
			t.Stop()
		}
		retry = min(2*retry, acceptRetryMax)
	}
	return nil, net.ErrClosed
}

// enter waits until accepting is allowed, and there is room; false: never again.
func (a *acceptor) enter() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	for !a.shut && (a.paused || a.limits.full(a)) {
		a.cond.Wait()
	}
	a.inside = !a.shut
	return !a.shut
}

// wakeUp is called when there may be room.
func (a *acceptor) wakeUp() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.cond.Broadcast()
}

// exit returns a channel that is closed by the next pause, resume or Close.
func (a *acceptor) exit() <-chan struct{} {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.inside = false
	a.cond.Broadcast()
	return a.wake
}

// pause returns when no accept is under way, all that was accepted is counted,
// and nothing more will be accepted until resume.
func (a *acceptor) pause() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.paused = true
	a.waitForAccept()
}

// waitForAccept waits until no accept is under way; a.mu is held, and enter lets nobody in.
func (a *acceptor) waitForAccept() {
	a.changed()
	// A deadline in the past ends the accept that waits; net's poller looks at
	// it before it asks the kernel, so this takes no connection either.
	a.SetDeadline(time.Unix(1, 0))
	for a.inside {
		t := time.AfterFunc(rouseAfter, a.rouse)
		a.cond.Wait()
		t.Stop()
	}
}

// rouse ends an accept that waits in the kernel, where no deadline is looked at:
// somebody who shares the socket has made it blocking. systemd does it to a socket of
// its own whenever it starts the service's next master.
func (a *acceptor) rouse() {
	a.nonblock()
	reenter()
	a.wakeUp() // who leaves tries again, if that was too early
}

// nonblock undoes what anybody can do who shares the socket.
func (a *acceptor) nonblock() error {
	raw, err := a.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Control(func(fd uintptr) { failed = syscall.SetNonblock(int(fd), true) })
	return cmp.Or(err, failed)
}

func (a *acceptor) resume() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.SetDeadline(time.Time{})
	a.paused = false
	a.changed()
}

// Close closes our descriptor. It is idempotent.
func (a *acceptor) Close() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.shut {
		return nil
	}
	a.shut = true
	a.waitForAccept() // Close would wait for it
	return a.Socket.Close()
}

func (a *acceptor) changed() {
	close(a.wake)
	a.wake = make(chan struct{})
	a.cond.Broadcast()
}

// take accepts what is queued until the queue is empty, without waiting. It is
// for a paused acceptor: the deadline that pauses it stands in Accept's way.
func (a *acceptor) take() ([]net.Conn, error) {
	raw, err := a.SyscallConn()
	if err != nil {
		return nil, err
	}
	var taken []net.Conn
	for len(taken) < maxTaken {
		var fd int
		var failed error
		if err := a.nonblock(); err != nil {
			return taken, err
		}
		if err := raw.Control(func(l uintptr) { fd, failed = acceptNow(int(l)) }); err != nil {
			return taken, err
		}
		switch {
		case failed == nil:
		case errors.Is(failed, syscall.EAGAIN):
			return taken, nil
		case errors.Is(failed, syscall.EINTR), errors.Is(failed, syscall.ECONNABORTED):
			continue // the client of that one is gone; the next may be there
		default:
			return taken, os.NewSyscallError("accept", failed)
		}
		c, err := ConnFromFD(fd)
		if err != nil {
			return taken, err
		}
		if c = a.track(c); c != nil {
			taken = append(taken, c)
		}
	}
	return taken, nil
}
