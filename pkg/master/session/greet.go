package session

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/masterd/masterd/pkg/ipc"
	"github.com/masterd/masterd/pkg/ipc/fdpass"
)

// greet sees a connection through its hello and, if it is welcome, through the
// rest of its life.
func (h *Hub) greet(link *ipc.Link, cred ipc.Cred) {
	s, hello, no := h.hear(link, cred)
	var w *wire
	if no == nil {
		w, no = s.welcome(link, hello)
	}
	h.dismiss(link)
	if no == nil {
		s.serve(w, hello)
		return
	}
	if no.final() { // told for its author's sake: whether it listens does not matter
		_ = link.Send(ipc.Message{Type: ipc.TypeReject, Text: no.text})
	}
	_ = link.Close()
	h.door.refuse(*no, cred)
}

// Inherit makes the connection that the worker is started with, and gives its end of
// it, the caller's to close: who connects by the socket's path has to be recognised,
// and this one is nobody else's.
func (s *Session) Inherit() (fd int, err error) {
	ours, fd, err := ipc.Pair()
	if err != nil {
		return -1, err
	}
	link, err := ipc.Adopt(ours)
	if err != nil {
		fdpass.Discard(fd)
		return -1, err
	}
	h := s.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if h.closed || s.gone {
		_ = link.Close()
		return fd, nil // its worker finds that there is no master, and looks for one
	}
	s.inherited = link
	h.tasks.Go(func() { h.greetInherited(s, link) })
	return fd, nil
}

// dropInherited: the worker speaks otherwise, or not at all any more. s.mu is held.
func (s *Session) dropInherited() {
	if s.inherited != nil {
		_ = s.inherited.Close()
		s.inherited = nil
	}
}

// greetInherited is greet for the connection that a worker was started with. It has no
// time limit: a program may be long in coming to its SDK, and one with an SDK of version
// 1 never does. The secret is asked for all the same, which costs nothing.
func (h *Hub) greetInherited(s *Session, link *ipc.Link) {
	hello, no := readHello(link, 0)
	var w *wire
	if no == nil {
		s.noteHello()
		if h.find(hello.Worker) != s || hello.Generation != s.expect.Generation || !s.proves(hello.Secret) {
			no = &refusal{RefusedSecret, "it is not the worker that was started with this connection, or that is not its secret"}
		} else if _, no = h.awaitPID(s); no == nil {
			w, no = s.welcome(link, hello)
		}
	}
	if no == nil {
		s.serve(w, hello)
		return
	}
	_ = link.Close()
	if no.reason != RefusedLeft { // it has ended, or speaks by the socket's path
		h.door.refuse(*no, ipc.Cred{PID: s.pid(), UID: s.expect.UID})
	}
}

// hear waits for the hello and finds the worker that it is from.
func (h *Hub) hear(link *ipc.Link, cred ipc.Cred) (*Session, ipc.Hello, *refusal) {
	hello, no := readHello(link, h.await)
	if no != nil {
		return nil, hello, no
	}
	if said := h.find(hello.Worker); said != nil {
		said.noteHello()
	}
	if _, err := ipc.Negotiate(hello.Min, hello.Max); err != nil {
		return nil, hello, &refusal{RefusedProtocol, err.Error()}
	}
	s := h.find(hello.Worker)
	if s == nil || !s.proves(hello.Secret) || s.expect.Generation != hello.Generation {
		// One text for all: a stranger learns nothing about which workers exist.
		return nil, hello, &refusal{RefusedSecret, fmt.Sprintf("worker %d of generation %d is not expected here, or that is not its secret", hello.Worker, hello.Generation)}
	}
	if cred.UID != s.expect.UID {
		return nil, hello, &refusal{RefusedUser, fmt.Sprintf("worker %d runs as uid %d, this connection comes from uid %d", hello.Worker, s.expect.UID, cred.UID)}
	}
	pid, no := h.awaitPID(s)
	if no != nil {
		return nil, hello, no
	}
	if cred.PID != pid && processGroup(cred.PID) != pid {
		return nil, hello, &refusal{RefusedProcess, fmt.Sprintf("worker %d is process %d, this connection comes from process %d, which is not in its process group", hello.Worker, pid, cred.PID)}
	}
	// Last, so that the number was the same process's when it was looked at.
	if link.PeerGone(cred) {
		return nil, hello, &refusal{RefusedLeft, fmt.Sprintf("process %d, which made this connection, has ended", cred.PID)}
	}
	return s, hello, nil
}

// readHello takes the first message, which has so long to come; zero: for ever.
func readHello(link *ipc.Link, within time.Duration) (ipc.Hello, *refusal) {
	var deadline time.Time
	if within > 0 {
		deadline = time.Now().Add(within)
	}
	if err := link.SetReadDeadline(deadline); err != nil {
		return ipc.Hello{}, &refusal{RefusedLeft, err.Error()}
	}
	m, fds, err := link.Recv()
	link.Discard(fds...)
	var garbage *ipc.ProtocolError
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return ipc.Hello{}, &refusal{RefusedSilence, fmt.Sprintf("no hello within %v", within)}
	case errors.As(err, &garbage):
		return ipc.Hello{}, &refusal{RefusedGarbage, printable(err.Error())}
	case err != nil:
		return ipc.Hello{}, &refusal{RefusedLeft, "the connection ended before its hello: " + err.Error()}
	case m.Type != ipc.TypeHello:
		return ipc.Hello{}, &refusal{RefusedGarbage, fmt.Sprintf("the first message is %q and not a hello", printable(string(m.Type)))}
	}
	if err := link.SetReadDeadline(time.Time{}); err != nil {
		return ipc.Hello{}, &refusal{RefusedLeft, err.Error()}
	}
	return *m.Hello, nil
}

// awaitPID waits for the PID of a worker that was quicker than its master.
func (h *Hub) awaitPID(s *Session) (int, *refusal) {
	timer := time.NewTimer(pidTimeout)
	defer timer.Stop()
	select {
	case <-s.started:
		return s.pid(), nil
	case <-s.forgotten:
		return 0, &refusal{RefusedGone, fmt.Sprintf("worker %d is not expected any more", s.expect.Worker)}
	case <-timer.C:
		return 0, &refusal{RefusedEarly, fmt.Sprintf("the process of worker %d was not known within %v", s.expect.Worker, pidTimeout)}
	}
}
