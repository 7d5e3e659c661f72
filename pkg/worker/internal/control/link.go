package control

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
	"github.com/masterd/masterd/pkg/ipc/fdpass"
	"github.com/masterd/masterd/pkg/worker/internal/measure"
)

const (
	welcomeTimeout = 5 * time.Second       // from hello to welcome
	redialFirst    = 50 * time.Millisecond // wait before looking for a lost master again
	// for so long no wait is longer: a master that dies or is upgraded is back soon
	redialSoon   = time.Second
	redialMax    = time.Second      // longest such wait
	firstContact = 60 * time.Second // a worker that never met its master gives up then
	outLimit     = 64               // answers that wait for a master that does not read
	flushTimeout = time.Second      // for the last of them
	lastBeats    = 64               // before drained, with what is left to say; background work may count for ever
	maxDump      = 16 << 20         // bytes of stacks
	jitter       = 0.2              // part of a wait that is random: siblings lose the master together
)

// masterLink keeps a worker connected to its master, one connection after the other,
// for ever. It is one goroutine; what happens is posted to events.
type masterLink struct {
	path   string
	first  *ipc.Link        // the connection that the process was started with; nil: there is none, or it was used
	hello  func() ipc.Hello // called for each connection, by the link's goroutine
	events chan linkEvent
	log    *slog.Logger
	stderr io.Writer // of dumps
}

// linkEvent is one of connected, disconnected, received, gaveUp.
type linkEvent interface{ linkEvent() }

type (
	// connected: the master has welcomed us.
	connected struct {
		conn    *masterConn
		welcome ipc.Welcome
	}
	// disconnected: that connection is over; the next is being looked for.
	disconnected struct {
		conn *masterConn
		err  error
	}
	// received: a master's message. The receiver owns the descriptors.
	received struct {
		conn *masterConn
		msg  ipc.Message
		fds  []int
	}
	// gaveUp: there never was a connection, and there will be none.
	gaveUp struct{ err error }
)

func (connected) linkEvent()    {}
func (disconnected) linkEvent() {}
func (received) linkEvent()     {}
func (gaveUp) linkEvent()       {}

// refusal is a master's reject.
type refusal struct{ text string }

func (r *refusal) Error() string { return "the master refused this worker: " + r.text }

// run ends with ctx, or after linkFailed.
func (m *masterLink) run(ctx context.Context) {
	met, told := false, false
	wait := redialFirst
	lost := time.Now() // or the beginning
	giveUp := lost.Add(firstContact)
	for ctx.Err() == nil {
		welcomed, err := m.connect(ctx)
		if ctx.Err() != nil {
			return
		}
		var refused *refusal
		_ = errors.As(err, &refused)
		switch {
		case welcomed:
			met, wait, lost = true, redialFirst, time.Now()
			m.log.Warn("worker: the connection to the master is lost; serving on and looking for it",
				"control", m.path, "error", err)
		case !met && (refused != nil || time.Now().After(giveUp)):
			m.post(ctx, gaveUp{fmt.Errorf("meeting the master at %s: %w", m.path, err)})
			return
		case !met && !told:
			told = true
			m.log.Warn("worker: the master does not answer yet",
				"control", m.path, "error", err, "giving_up_after", firstContact)
		default:
			m.log.Debug("worker: no master", "control", m.path, "error", err, "again", wait)
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

// connect dials, unless it has a connection to begin with, introduces the worker and reads
// until the connection ends.
func (m *masterLink) connect(ctx context.Context) (welcomed bool, err error) {
	conn := m.first
	if m.first = nil; conn == nil {
		if conn, err = ipc.Dial(m.path); err != nil {
			return false, err
		}
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()

	hello := m.hello()
	if err := conn.Send(ipc.Message{Type: ipc.TypeHello, Hello: &hello}); err != nil {
		return false, fmt.Errorf("saying hello: %w", err)
	}
	conn.SetReadDeadline(time.Now().Add(welcomeTimeout))
	msg, fds, err := conn.Recv()
	fdpass.Close(fds...)
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
	if !m.post(ctx, connected{s, welcome}) {
		return true, ctx.Err()
	}
	err = m.read(ctx, conn, s)
	m.post(ctx, disconnected{s, err})
	return true, err
}

func readWelcome(msg ipc.Message) (ipc.Welcome, error) {
	switch {
	case msg.Type == ipc.TypeReject:
		return ipc.Welcome{}, &refusal{msg.Text}
	case msg.Type != ipc.TypeWelcome || msg.Welcome == nil:
		return ipc.Welcome{}, fmt.Errorf("the answer to hello was %q, not a welcome", msg.Type)
	case msg.Welcome.Version < ipc.MinVersion || msg.Welcome.Version > ipc.MaxVersion:
		return ipc.Welcome{}, &refusal{fmt.Sprintf("it speaks version %d of the protocol, this worker %d to %d; "+
			"build the worker with another pkg/worker or upgrade masterd",
			msg.Welcome.Version, ipc.MinVersion, ipc.MaxVersion)}
	}
	return *msg.Welcome, nil
}

func (m *masterLink) read(ctx context.Context, conn *ipc.Link, s *masterConn) error {
	for {
		msg, fds, err := conn.Recv()
		if err != nil {
			fdpass.Close(fds...)
			return err
		}
		if msg.Type == ipc.TypeDump {
			// Here and not in the worker's loop: it is asked for when that hangs.
			fdpass.Close(fds...)
			dump(m.stderr)
			continue
		}
		if !m.post(ctx, received{s, msg, fds}) {
			fdpass.Close(fds...)
			return ctx.Err()
		}
	}
}

func (m *masterLink) post(ctx context.Context, ev linkEvent) bool {
	select {
	case m.events <- ev:
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

// masterConn is one connection to the master; it writes so that nobody waits for
// a master that does not read.
type masterConn struct {
	link  *ipc.Link
	out   chan ipc.Message // closed by finish
	over  chan struct{}    // closed when the connection has ended
	wrote chan struct{}    // closed when the writer has ended

	report *measure.Report // what the master has been told; of the lifecycle's loop
}

func newSession(conn *ipc.Link) *masterConn {
	s := &masterConn{
		link:  conn,
		out:   make(chan ipc.Message, outLimit),
		over:  make(chan struct{}),
		wrote: make(chan struct{}),
	}
	go s.write()
	return s
}

func (c *masterConn) write() {
	defer close(c.wrote)
	for {
		select {
		case m, ok := <-c.out:
			if !ok {
				return
			}
			if c.link.Send(m) != nil {
				c.link.Close() // which ends the reader, and that the connection
				return
			}
		case <-c.over:
			return
		}
	}
}

// send queues an answer. A master that lets outLimit of them pile up is as good
// as gone.
func (c *masterConn) send(m ipc.Message) {
	select {
	case c.out <- m:
	default:
		c.link.Close()
	}
}

// sendLast waits for room in the queue until giveUp; false: there is none, as the connection is
// over or the master does not read.
func (c *masterConn) sendLast(m ipc.Message, giveUp <-chan time.Time) bool {
	select {
	case c.out <- m:
		return true
	case <-c.wrote:
	case <-giveUp:
	}
	return false
}

// finish returns when what was sent is written, or will not be. Nothing may be
// sent after it.
func (c *masterConn) finish() {
	close(c.out)
	select {
	case <-c.wrote:
	case <-time.After(flushTimeout):
	}
}

// end is the reader's: the connection is gone.
func (c *masterConn) end() {
	close(c.over)
	c.link.Close()
	<-c.wrote
}
