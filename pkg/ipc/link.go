package ipc

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"github.com/masterd/masterd/pkg/ipc/fdpass"
)

// sendTimeout is how long a Send may take, waits and retries together. The
// kernel holds some hundred messages for a peer that does not read, so a
// peer that makes a Send wait at all has been stuck for a long time.
const sendTimeout = 5 * time.Second

// Link is one connection between a master and a worker. Send may be called by
// several goroutines at once, Recv by one; Close by any.
//
// (It is not called Conn because [Conn] is a message's body.)
type Link struct {
	conn *fdpass.Conn

	send     sync.Mutex
	patience time.Duration // sendTimeout, less in tests
	broken   error         // why no Send can succeed any more; guarded by send
}

func newLink(c *net.UnixConn) (*Link, error) {
	conn, err := fdpass.New(c, MaxMessage, MaxFDs)
	if err != nil {
		return nil, err
	}
	return &Link{conn: conn, patience: sendTimeout}, nil
}

// Send sends one message with its descriptors. The descriptors stay the
// caller's, who may close them as soon as Send has returned.
//
// A message that is not valid (see [Message.Validate]), too long or has more
// than [MaxFDs] descriptors is refused and costs the connection nothing. Send
// waits for at most a few seconds for a peer that does not read; it then
// fails, as all later calls do at once: the peer is stuck and the connection
// should be closed.
func (l *Link) Send(m Message, fds ...int) error {
	b, err := encode(m, len(fds))
	if err != nil {
		return err
	}
	l.send.Lock()
	defer l.send.Unlock()
	if l.broken == nil {
		l.broken = l.conn.Send(l.patience, b, fds...)
		if errors.Is(l.broken, os.ErrDeadlineExceeded) {
			l.broken = fmt.Errorf("the other side has not read for %v: %w", l.patience, l.broken)
		}
	}
	if l.broken != nil {
		return fmt.Errorf("sending %s: %w", m.Type, l.broken)
	}
	return nil
}

// Unread reports whether the other side has yet to read something of what was sent. It is false
// where the system does not tell.
func (l *Link) Unread() bool { return unread(l.conn) }

// Recv waits for the next message. Its descriptors are close-on-exec and the
// caller's to close; it gets only those that the message has a use for, and
// all of them with a message of a type that is not known here.
//
// The end of the connection is io.EOF. What is not a message of this protocol
// is a [*ProtocolError]: its descriptors have been closed, and the connection
// should be. A message of an unknown type is delivered as it is, fields that
// are not known are ignored.
func (l *Link) Recv() (Message, []int, error) {
	p, err := l.conn.Receive()
	switch {
	case errors.Is(err, io.EOF):
		return Message{}, nil, io.EOF
	case err != nil:
		return Message{}, nil, fmt.Errorf("receiving: %w", err)
	}
	m, err := decode(p.Data, len(p.FDs), p.Long || p.Lost)
	if err != nil {
		l.Discard(p.FDs...)
		return Message{}, nil, err
	}
	if m.fdUse() == noFDs {
		l.Discard(p.FDs...)
		p.FDs = nil
	}
	return m, p.FDs, nil
}

// SetReadDeadline makes Recv fail with an error that is
// os.ErrDeadlineExceeded at t; the zero time means never.
func (l *Link) SetReadDeadline(t time.Time) error { return l.conn.SetReadDeadline(t) }

// Discard closes descriptors that came with a message of this link, and waits for that:
// it is for the goroutine that calls Recv, so that a peer that makes it hang is not
// read from meanwhile.
func (l *Link) Discard(fds ...int) { fdpass.DiscardWait(nil, fds...) }

// Close ends the connection: a Send or Recv under way fails, the other side
// sees the end. It may be called more than once, and does not wait.
func (l *Link) Close() error { return l.conn.Close() }
