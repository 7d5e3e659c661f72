package session

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/masterd/masterd/pkg/ipc"
	"github.com/masterd/masterd/pkg/ipc/fdpass"
)

// frame is a message on its way out, with descriptors of its own.
type frame struct {
	message ipc.Message
	fds     []int
}

// wire is one connection of a session: a queue and a goroutine that writes, a
// goroutine that reads and tells the facts.
type wire struct {
	link  *ipc.Link
	queue chan frame
	ended chan struct{} // closed by cut
	done  chan struct{} // closed when its last fact was told

	// Guarded by the session's mu.
	over bool
	why  string
}

// cut ends the connection, for the first reason given. The session's mu is
// held: nothing is queued after it.
func (w *wire) cut(why string) {
	if w.over {
		return
	}
	w.over, w.why = true, why
	close(w.ended)
	_ = w.link.Close()
}

// welcome makes a connection the session's own. One that was there before is
// replaced: a worker knows best which of its connections it still has.
func (s *Session) welcome(link *ipc.Link, hello ipc.Hello) (*wire, *refusal) {
	s.turn.Lock()
	defer s.turn.Unlock()
	if !s.welcomed.take(time.Now(), maxWelcomes, rateWindow/maxWelcomes) {
		return nil, &refusal{RefusedOften, fmt.Sprintf("worker %d has connected more than %d times within %v", s.expect.Worker, maxWelcomes, rateWindow)}
	}

	s.mu.Lock()
	old := s.wire
	if old != nil {
		old.cut("the worker made a new connection")
	}
	s.mu.Unlock()
	if old != nil {
		<-old.done // its Lost comes before our Connected
	}

	// The welcome is on its way before anything else can be queued.
	answer := s.expect.Welcome
	version, err := ipc.Negotiate(hello.Min, hello.Max)
	if err != nil {
		return nil, &refusal{RefusedProtocol, err.Error()}
	}
	answer.Version = version
	if answer.Listeners == nil {
		answer.Listeners = []ipc.Listener{} // a list to every language, not a null
	}
	if err := link.Send(ipc.Message{Type: ipc.TypeWelcome, Welcome: &answer}); err != nil {
		return nil, &refusal{RefusedBroken, fmt.Sprintf("worker %d could not be welcomed: %v", s.expect.Worker, err)}
	}

	w := &wire{link: link, queue: make(chan frame, maxQueue), ended: make(chan struct{}), done: make(chan struct{})}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gone || s.ended {
		return nil, &refusal{RefusedGone, fmt.Sprintf("worker %d is not expected any more", s.expect.Worker)}
	}
	s.wire = w
	if s.inherited == link {
		s.inherited = nil // the wire's by now
	}
	s.dropInherited()
	if s.expect.adopted() {
		// An earlier master has asked it for things, and answers to those may come
		// yet: ours are numbered above. One that does not say how many is an older
		// SDK, see take.
		s.seq = max(s.seq, hello.Seq)
		s.silent = hello.Seq == 0
	}
	return w, nil
}

// serve lives as long as the connection. It returns when the last fact was told.
func (s *Session) serve(w *wire, hello ipc.Hello) {
	defer close(w.done)
	written := make(chan struct{})
	go func() {
		defer close(written)
		s.write(w)
	}()

	s.hub.let()
	s.tellConnected(hello)
	why := s.read(w)

	s.mu.Lock()
	w.cut(why)
	why = w.why
	s.mu.Unlock()
	s.hub.let()
	<-written
	s.tell(Fact{Kind: Lost, Text: why})
}

// tellConnected tells of the hello, and again what a worker that reconnects
// may have said into a connection that was breaking.
func (s *Session) tellConnected(hello ipc.Hello) {
	if s.renewed(hello.Secret) {
		s.tell(Fact{Kind: Renewed})
	}
	hello.Secret = ""
	hello.SDK, hello.State = printable(hello.SDK), printable(hello.State)
	for i, name := range hello.Listeners {
		hello.Listeners[i] = printable(name)
	}
	s.tell(Fact{Kind: Connected, Hello: &hello})
	if hello.State == ipc.StateNew {
		return
	}
	s.tell(Fact{Kind: Ready})
	s.mu.Lock()
	activated := s.activated
	s.mu.Unlock()
	if hello.State == ipc.StateActive && (activated != 0 || s.expect.adopted()) {
		s.tell(Fact{Kind: Accepting, Seq: activated})
	}
}

// write sends what is queued until the connection is cut, and closes the
// descriptors of what it could not send.
func (s *Session) write(w *wire) {
	for {
		select {
		case f := <-w.queue:
			err := w.link.Send(f.message, f.fds...)
			if err == nil {
				fdpass.CloseCopies(f.fds...)
			} else {
				fdpass.Discard(f.fds...)
				s.mu.Lock()
				w.cut(err.Error())
				s.mu.Unlock()
			}
		case <-w.ended:
			for {
				select {
				case f := <-w.queue:
					fdpass.Discard(f.fds...)
				default:
					return
				}
			}
		}
	}
}

// read tells the facts until the connection ends, and says why it did.
func (s *Session) read(w *wire) string {
	var since time.Time
	var count int
	for {
		m, fds, err := w.link.Recv()
		if m.Type != ipc.TypeKeep {
			w.link.Discard(fds...) // a worker has no other to give
			fds = nil
		}
		switch {
		case errors.Is(err, io.EOF):
			return "the worker closed it"
		case err != nil:
			return printable(err.Error())
		}
		if now := time.Now(); now.Sub(since) >= rateWindow {
			since, count = now, 0
		}
		if count++; count > maxRate {
			w.link.Discard(fds...)
			return fmt.Sprintf("the worker sent more than %d messages within %v", maxRate, rateWindow)
		}
		if kind, ok := requestKind(m.Type); ok {
			s.request(kind, m, fds)
			continue
		}
		if why := s.take(m); why != "" {
			return why
		}
	}
}

// take turns one message into a fact, or says what is wrong with it.
func (s *Session) take(m ipc.Message) string {
	kind, ok := kindOf(m.Type)
	switch {
	case ok:
	case m.Type == ipc.TypeHello:
		return "the worker said hello twice on one connection"
	case fromMaster(m.Type):
		return fmt.Sprintf("the worker sent %q, which only masters send", m.Type)
	default:
		return "" // from a newer worker: it can do without an answer, by the protocol's promise
	}
	s.mu.Lock()
	last, activated, silent := s.seq, s.activated, s.silent
	s.mu.Unlock()
	if m.Seq > last && silent {
		return "" // to an earlier master; what matters of it, its next hello says
	}
	if m.Seq > last {
		return fmt.Sprintf("the worker answered %s to request %d, the last one made was %d", m.Type, m.Seq, last)
	}
	if kind == Accepting && m.Seq < activated {
		return "" // it was parked and activated again meanwhile
	}
	if kind == Renewed && !s.renewed("") {
		return "" // it was sent none
	}
	f := Fact{Kind: kind, Seq: m.Seq, Stats: m.Stats, Text: printable(m.Text)}
	if m.Counts != nil && (kind == Beat || kind == Drained) && s.counted.take(time.Now(), countsBurst, countsEvery) {
		f.Counts = m.Counts
	}
	s.tell(f)
	return ""
}
