package session

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/masterd/masterd/pkg/ipc"
	"github.com/masterd/masterd/pkg/ipc/fdpass"
)

// Session is one worker's control connection, and the next one if it
// reconnects. Its methods may be called by several goroutines at once. Those
// that send return as soon as the message is queued; they fail when the worker
// is not connected, or reads so little that the queue is full (then its
// connection is dropped, too).
type Session struct {
	hub       *Hub
	expect    Expect
	started   chan struct{} // closed by SetPID
	forgotten chan struct{} // closed by forget

	turn     sync.Mutex // held by the one connection that is being welcomed
	welcomed allowance  // of connections; under turn
	counted  allowance  // of counts; of the goroutine that reads, of which there is one at a time

	mu        sync.Mutex
	proof     string    // SHA-256 of what it proves itself with
	next      string    // and of what it was sent to prove itself with instead; empty: nothing
	inherited *ipc.Link // our end of the connection that it was started with; nil: there is none
	process   int
	ended     bool // its process has, and nobody is it any more
	gone      bool
	admitted  bool   // a connection came in past a crowd and was not answered yet
	wire      *wire  // the last connection, over or not; nil before the first
	seq       uint64 // of the last request
	activated uint64 // seq of the last Activate
	spoke     bool   // a hello of its has come
	silent    bool   // an adopted worker that does not say what an earlier master has asked it for
}

func newSession(e Expect) *Session {
	s := &Session{expect: e, proof: e.SecretHash, next: e.NextHash, started: make(chan struct{}), forgotten: make(chan struct{})}
	if e.Secret != "" {
		s.proof, s.next = HashSecret(e.Secret), ""
	}
	return s
}

// SetPID says which process the worker is, as soon as that is known; only the
// first call counts. A hello that came earlier has waited for it.
func (s *Session) SetPID(pid int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.process == 0 && pid > 0 {
		s.process = pid
		close(s.started)
	}
}

func (s *Session) pid() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.process
}

// admit lets the worker's own process past a crowd, one connection at a time.
func (s *Session) admit(pid int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.process == 0 || s.process != pid || s.admitted {
		return false
	}
	s.admitted = true
	return true
}

func (s *Session) admitAgain() {
	s.mu.Lock()
	s.admitted = false
	s.mu.Unlock()
}

// Connected says whether the worker can be told anything now.
func (s *Session) Connected() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.wire != nil && !s.wire.over
}

// Spoke says whether the worker has ever said hello to this master, welcome or not.
func (s *Session) Spoke() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.spoke
}

// noteHello notes that it has.
func (s *Session) noteHello() {
	s.mu.Lock()
	s.spoke = true
	s.mu.Unlock()
}

// Heard waits until all was told that the worker has said on a connection that
// has ended, but no longer than this: a child of the worker's may keep it open.
// The process is gone: who has its number from now on is not the worker.
func (s *Session) Heard(limit time.Duration) {
	s.mu.Lock()
	s.ended = true
	w := s.wire
	s.mu.Unlock()
	if w == nil {
		return
	}
	wait := time.NewTimer(limit)
	defer wait.Stop()
	select {
	case <-w.done:
	case <-wait.C:
	}
}

// Capacity says how many connections the worker may be passed now. A part of the
// queue is kept for what it must be told: one connection too many would cost
// the control connection, and with it all that is queued.
func (s *Session) Capacity() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.wire == nil || s.wire.over {
		return 0
	}
	return max(0, maxQueue/2-len(s.wire.queue))
}

// Activate hands over listening sockets, names and descriptors in the same
// order, or says "you are active again" when there are none. The descriptors
// stay the caller's and may be closed at once. Answer: Accepting.
func (s *Session) Activate(names []string, fds []int) error { return s.activate(names, fds, false) }

// ActivateWaiting is Activate for a worker whose background work has to wait
// for another Activate: that of the version before has not ended.
func (s *Session) ActivateWaiting(names []string, fds []int) error {
	return s.activate(names, fds, true)
}

func (s *Session) activate(names []string, fds []int, wait bool) error {
	if len(names) != len(fds) {
		return fmt.Errorf("activating worker %d: %d names for %d descriptors", s.expect.Worker, len(names), len(fds))
	}
	dups := make([]int, 0, len(fds))
	for i, fd := range fds {
		// A duplicate shares the open file description and leaves its flags
		// alone; only the close-on-exec of the new descriptor is set.
		dup, err := dupFD(fd)
		if err != nil {
			fdpass.Discard(dups...)
			return fmt.Errorf("activating worker %d: duplicating the socket of %s: %w", s.expect.Worker, names[i], err)
		}
		dups = append(dups, dup)
	}
	return s.send(ipc.Message{Type: ipc.TypeActivate, Activate: &ipc.Activate{Listeners: slices.Clone(names), Wait: wait}}, dups)
}

// Pause stops accepting (shared steering). Answer: Paused.
func (s *Session) Pause() error { return s.send(ipc.Message{Type: ipc.TypePause}, nil) }

// Resume ends Pause. Answer: Accepting.
func (s *Session) Resume() error { return s.send(ipc.Message{Type: ipc.TypeResume}, nil) }

// Park says that no new connections will come for now. Answer: Parked.
func (s *Session) Park() error { return s.send(ipc.Message{Type: ipc.TypePark}, nil) }

// Drain has the worker finish what it has and exit. Zero: without a deadline.
// Answer: Drained.
func (s *Session) Drain(timeout time.Duration) error {
	ms := int64(timeout / time.Millisecond)
	if timeout > 0 && ms == 0 {
		ms = 1 // zero would mean for ever
	}
	return s.send(ipc.Message{Type: ipc.TypeDrain, Drain: &ipc.Drain{TimeoutMS: max(ms, 0)}}, nil)
}

// Announce says that the service is about to stop. No answer; a worker that does
// not know the message refuses it, and loses nothing.
func (s *Session) Announce() error { return s.send(ipc.Message{Type: ipc.TypeAnnounce}, nil) }

// Give brings one end of a handover link to another worker: the worker moves
// its idle client connections there. The descriptor is the session's from now
// on, whatever the outcome. No answer but Refused.
func (s *Session) Give(fd int, to ipc.Peer) error {
	return s.send(ipc.Message{Type: ipc.TypeGive, Peer: &to}, []int{fd})
}

// Split is Give of a share of the connections: the worker stays active. No answer but Refused,
// from an SDK that does not know it or a worker that cannot; seq is what that answers.
func (s *Session) Split(fd int, to ipc.Peer, share ipc.Split) (seq uint64, err error) {
	return s.sendNumbered(ipc.Message{Type: ipc.TypeSplit, Peer: &to, Split: &share}, []int{fd})
}

// Take brings the other end: the worker serves what comes over it. The
// descriptor is the session's from now on. No answer but Refused.
func (s *Session) Take(fd int, from ipc.Peer) error {
	return s.send(ipc.Message{Type: ipc.TypeTake, Peer: &from}, []int{fd})
}

// Stay ends all that Give has begun: what is open stays. No answer.
func (s *Session) Stay() error { return s.send(ipc.Message{Type: ipc.TypeStay}, nil) }

// Compare has the worker count for a comparison with another version; nil: no more. No answer but
// Refused, from an SDK that does not know it; seq is what that answers.
func (s *Session) Compare(c *ipc.Compare) (seq uint64, err error) {
	return s.sendNumbered(ipc.Message{Type: ipc.TypeCompare, Compare: c}, nil)
}

// Dump has the worker write its stacks to its standard error. No answer.
func (s *Session) Dump() error { return s.send(ipc.Message{Type: ipc.TypeDump}, nil) }

// Conn passes an open connection to be served as if it had been accepted on
// the listener; purpose is one of ipc.Purpose…. The descriptor is the
// session's from now on, whatever the outcome. No answer but Refused.
func (s *Session) Conn(listener, purpose string, fd int) error {
	return s.send(ipc.Message{Type: ipc.TypeConn, Conn: &ipc.Conn{Listener: listener, Purpose: purpose}}, []int{fd})
}

func (s *Session) send(m ipc.Message, fds []int) error {
	_, err := s.sendNumbered(m, fds)
	return err
}

// sendNumbered numbers a request and queues it. The descriptors are its own.
func (s *Session) sendNumbered(m ipc.Message, fds []int) (seq uint64, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := s.wire
	if w == nil || w.over {
		fdpass.Discard(fds...)
		return 0, fmt.Errorf("telling worker %d to %s: it has no control connection", s.expect.Worker, m.Type)
	}
	// What is wrong with the message must be found here: once it is queued, a
	// failure to send it is the connection's.
	m.Seq = s.seq + 1
	if err := sendable(m, fds); err != nil {
		fdpass.Discard(fds...)
		return 0, fmt.Errorf("telling worker %d: %w", s.expect.Worker, err)
	}
	s.seq = m.Seq
	if err := s.queue(w, m, fds); err != nil {
		return 0, err
	}
	if m.Type == ipc.TypeActivate {
		s.activated = m.Seq
	}
	return m.Seq, nil
}

// queue has a message written. One that finds no place costs the connection.
// The session's mu is held.
func (s *Session) queue(w *wire, m ipc.Message, fds []int) error {
	select {
	case w.queue <- frame{m, fds}:
		return nil
	default:
	}
	fdpass.Discard(fds...)
	why := fmt.Sprintf("it has not read the last %d messages", maxQueue)
	w.cut(why)
	return fmt.Errorf("telling worker %d to %s: %s; its control connection is dropped", s.expect.Worker, m.Type, why)
}

func sendable(m ipc.Message, fds []int) error {
	if len(fds) > ipc.MaxFDs {
		return fmt.Errorf("%s with %d descriptors at once, at most %d fit on a message", m.Type, len(fds), ipc.MaxFDs)
	}
	return m.Validate()
}

// forget ends the session for good.
func (s *Session) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gone {
		return
	}
	s.gone = true
	close(s.forgotten)
	s.dropInherited()
	if s.wire != nil {
		s.wire.cut("the worker was forgotten")
	}
}

// tell hands a fact to the callback, unless the session was forgotten.
func (s *Session) tell(f Fact) {
	s.mu.Lock()
	gone := s.gone
	s.mu.Unlock()
	if !gone && s.expect.Fact != nil {
		s.expect.Fact(f)
	}
}
