package worker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"runtime"
	"time"

	"github.com/masterd/masterd/pkg/ipc"
)

const (
	welcomeTimeout = 5 * time.Second       // from hello to welcome
	redialFirst    = 50 * time.Millisecond // wait before looking for a lost master again
	redialSoon     = time.Second           // for so long no wait is longer: a master that dies or is upgraded is back soon
	redialMax      = time.Second           // longest such wait
	firstContact   = 60 * time.Second      // a worker that never met its master gives up then
	outLimit       = 64                    // answers that wait for a master that does not read
	flushTimeout   = time.Second           // for the last of them
	maxDump        = 16 << 20              // bytes of stacks
	jitter         = 0.2                   // part of a wait that is random: siblings lose the master together
)

// link keeps a worker connected to its master, one session after the other,
// for ever. It is one goroutine; what happens is posted to events.
type link struct {
	path   string
	first  *ipc.Link        // the connection that the process was started with; nil: there is none, or it was used
	hello  func() ipc.Hello // what to say now
	events chan linkEvent
	log    *slog.Logger
	stderr io.Writer // of dumps
}

// linkEvent is one of linkUp, linkDown, linkMessage, linkFailed.
type linkEvent interface{ linkEvent() }

type (
	// linkUp: the master has welcomed us.
	linkUp struct {
		session *session
		welcome ipc.Welcome
	}
	// linkDown: that session is over; the next is being looked for.
	linkDown struct {
		session *session
		err     error
	}
	// linkMessage: a master's message. The receiver owns the descriptors.
	linkMessage struct {
		session *session
		msg     ipc.Message
		fds     []int
	}
	// linkFailed: there never was a session, and there will be none.
	linkFailed struct{ err error }
)

func (linkUp) linkEvent()      {}
func (linkDown) linkEvent()    {}
func (linkMessage) linkEvent() {}
func (linkFailed) linkEvent()  {}

// refusal is a master's reject.
type refusal struct{ text string }

func (r *refusal) Error() string { return "the master refused this worker: " + r.text }

// run ends with ctx, or after linkFailed.
func (k *link) run(ctx context.Context) {
	met, told := false, false
	wait := redialFirst
	lost := time.Now() // or the beginning
	giveUp := lost.Add(firstContact)
	for ctx.Err() == nil {
		welcomed, err := k.session(ctx)
		if ctx.Err() != nil {
			return
		}
		var refused *refusal
		_ = errors.As(err, &refused)
		switch {
		case welcomed:
			met, wait, lost = true, redialFirst, time.Now()
			k.log.Warn("worker: the connection to the master is lost; serving on and looking for it", "control", k.path, "error", err)
		case !met && (refused != nil || time.Now().After(giveUp)):
			k.post(ctx, linkFailed{fmt.Errorf("meeting the master at %s: %w", k.path, err)})
			return
		case !met && !told:
			told = true
			k.log.Warn("worker: the master does not answer yet", "control", k.path, "error", err, "giving_up_after", firstContact)
		default:
			k.log.Debug("worker: no master", "control", k.path, "error", err, "again", wait)
		}
		spread := time.Duration(jitter * (2*rand.Float64() - 1) * float64(wait))
		select {
		case <-time.After(wait + spread):
		case <-ctx.Done():
		}
		if refused != nil || time.Since(lost) > redialSoon {
			wait = min(2*wait, redialMax)
		}
	}
}

// session dials, unless it has a connection to begin with, introduces the worker and reads until the connection ends.
func (k *link) session(ctx context.Context) (welcomed bool, err error) {
	conn := k.first
	if k.first = nil; conn == nil {
		if conn, err = ipc.Dial(k.path); err != nil {
			return false, err
		}
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()

	hello := k.hello()
	if err := conn.Send(ipc.Message{Type: ipc.TypeHello, Hello: &hello}); err != nil {
		return false, fmt.Errorf("saying hello: %w", err)
	}
	conn.SetReadDeadline(time.Now().Add(welcomeTimeout))
	msg, fds, err := conn.Recv()
	closeAll(fds)
	if err != nil {
		return false, fmt.Errorf("waiting for the answer to hello: %w", err)
	}
	conn.SetReadDeadline(time.Time{})
	welcome, err := readWelcome(msg)
	if err != nil {
		return false, err
	}

	s := newSession(conn)
	defer s.end()
	if !k.post(ctx, linkUp{s, welcome}) {
		return true, ctx.Err()
	}
	err = k.read(ctx, conn, s)
	k.post(ctx, linkDown{s, err})
	return true, err
}

func readWelcome(msg ipc.Message) (ipc.Welcome, error) {
	switch {
	case msg.Type == ipc.TypeReject:
		return ipc.Welcome{}, &refusal{msg.Text}
	case msg.Type != ipc.TypeWelcome || msg.Welcome == nil:
		return ipc.Welcome{}, fmt.Errorf("the answer to hello was %q, not a welcome", msg.Type)
	case msg.Welcome.Version < ipc.MinVersion || msg.Welcome.Version > ipc.MaxVersion:
		return ipc.Welcome{}, &refusal{fmt.Sprintf("it speaks version %d of the protocol, this worker %d to %d; build the worker with another pkg/worker or upgrade masterd",
			msg.Welcome.Version, ipc.MinVersion, ipc.MaxVersion)}
	}
	return *msg.Welcome, nil
}

func (k *link) read(ctx context.Context, conn *ipc.Link, s *session) error {
	for {
		msg, fds, err := conn.Recv()
		if err != nil {
			closeAll(fds)
			return err
		}
		if msg.Type == ipc.TypeDump {
			// Here and not in the life's loop: it is asked for when that hangs.
			closeAll(fds)
			dump(k.stderr)
			continue
		}
		if !k.post(ctx, linkMessage{s, msg, fds}) {
			closeAll(fds)
			return ctx.Err()
		}
	}
}

func (k *link) post(ctx context.Context, ev linkEvent) bool {
	select {
	case k.events <- ev:
		return true
	case <-ctx.Done():
		return false
	}
}

// dump writes the stacks of all goroutines.
func dump(to io.Writer) {
	buf := make([]byte, 64<<10)
	for {
		n := runtime.Stack(buf, true)
		if n < len(buf) || len(buf) >= maxDump {
			fmt.Fprintf(to, "worker: process %d was asked for its stacks\n\n%s\n", os.Getpid(), buf[:n])
			return
		}
		buf = make([]byte, 2*len(buf))
	}
}

// session is one connection to the master; it writes so that nobody waits for
// a master that does not read.
type session struct {
	conn  *ipc.Link
	out   chan ipc.Message // closed by finish
	over  chan struct{}    // closed when the connection has ended
	wrote chan struct{}    // closed when the writer has ended
}

func newSession(conn *ipc.Link) *session {
	s := &session{
		conn:  conn,
		out:   make(chan ipc.Message, outLimit),
		over:  make(chan struct{}),
		wrote: make(chan struct{}),
	}
	go s.write()
	return s
}

func (s *session) write() {
	defer close(s.wrote)
	for {
		select {
		case m, ok := <-s.out:
			if !ok {
				return
			}
			if s.conn.Send(m) != nil {
				s.conn.Close() // the reader says that it is over
				return
			}
		case <-s.over:
			return
		}
	}
}

// send queues an answer. A master that lets outLimit of them pile up is as good
// as gone.
func (s *session) send(m ipc.Message) {
	select {
	case s.out <- m:
	default:
		s.conn.Close()
	}
}

// beat sends numbers, unless older news still wait.
func (s *session) beat(m ipc.Message) {
	if len(s.out) == 0 {
		s.send(m)
	}
}

// finish returns when what was sent is written, or will not be. Nothing may be
// sent after it.
func (s *session) finish() {
	close(s.out)
	select {
	case <-s.wrote:
	case <-time.After(flushTimeout):
	}
}

// end is the reader's: the connection is gone.
func (s *session) end() {
	close(s.over)
	s.conn.Close()
	<-s.wrote
}
