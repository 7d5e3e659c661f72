package ipc

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// Limits of one connection that are ours and not the protocol's.
const (
	// sendTimeout is how long a Send may take, waits and retries together. The
	// kernel holds some hundred messages for a peer that does not read, so a
	// peer that makes a Send wait at all has been stuck for a long time.
	sendTimeout = 5 * time.Second
	// retryFirst and retryMost bound the wait between two attempts when the
	// kernel is out of buffers or has too many descriptors in flight.
	retryFirst = time.Millisecond
	retryMost  = 50 * time.Millisecond
	// firstBuffer is the receive buffer, in bytes, until a longer message
	// comes. Nearly all messages are a few hundred bytes, and a master has a
	// buffer for each worker.
	firstBuffer = 2 << 10
)

// Link is one connection between a master and a worker. Send may be called by
// several goroutines at once, Recv by one; Close by any.
//
// (It is not called Conn because [Conn] is a message's body.)
type Link struct {
	conn   *net.UnixConn
	raw    syscall.RawConn
	closed chan struct{} // ends the waits of a Send
	once   sync.Once

	// send makes the write deadline belong to one Send: were it shared, each
	// new Send would prolong the wait of the one that is stuck.
	send     sync.Mutex
	patience time.Duration // sendTimeout, less in tests
	broken   error         // why no Send can succeed any more; guarded by send

	// Recv's, made by the first: most connections of a flood never get so far.
	buf []byte
	oob []byte
}

func newLink(c *net.UnixConn) (*Link, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, err
	}
	return &Link{
		conn:     c,
		raw:      raw,
		closed:   make(chan struct{}),
		patience: sendTimeout,
	}, nil
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
	var rights []byte
	if len(fds) > 0 {
		rights = makeRights(fds)
	}

	l.send.Lock()
	defer l.send.Unlock()
	if l.broken != nil {
		return fmt.Errorf("sending %s: %w", m.Type, l.broken)
	}
	if err := l.write(b, rights); err != nil {
		l.broken = err
		return fmt.Errorf("sending %s: %w", m.Type, err)
	}
	return nil
}

// write puts one frame on the wire, whole or not at all.
func (l *Link) write(b, rights []byte) error {
	deadline := time.Now().Add(l.patience)
	if err := l.conn.SetWriteDeadline(deadline); err != nil {
		return err
	}
	for wait := retryFirst; ; wait = min(2*wait, retryMost) {
		_, _, err := l.conn.WriteMsgUnix(b, rights, nil)
		switch {
		case err == nil:
			return nil
		case l.isClosed():
			return net.ErrClosed
		case errors.Is(err, os.ErrDeadlineExceeded):
			return fmt.Errorf("the other side has not read for %v: %w", l.patience, err)
		case !outOfRoom(err) || time.Now().Add(wait).After(deadline):
			return err
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-l.closed:
			timer.Stop()
			return net.ErrClosed
		}
	}
}

// Recv waits for the next message. Its descriptors are close-on-exec and the
// caller's to close; it gets only those that the message has a use for, and
// all of them with a message of a type that is not known here.
//
// The end of the connection is io.EOF. What is not a message of this protocol
// is a [*ProtocolError]: its descriptors have been closed, and the connection
// should be. A message of an unknown type is delivered as it is, fields that
// are not known are ignored.
func (l *Link) Recv() (Message, []int, error) {
	n, fds, truncated, err := l.read()
	if err != nil {
		l.Discard(fds...)
		return Message{}, nil, err
	}
	m, err := decode(l.buf[:n], len(fds), truncated)
	if err != nil {
		l.Discard(fds...)
		return Message{}, nil, err
	}
	if m.fdUse() == noFDs {
		l.Discard(fds...)
		fds = nil
	}
	return m, fds, nil
}

// read takes one frame into l.buf.
func (l *Link) read() (n int, fds []int, truncated bool, err error) {
	for reset := false; ; reset = true {
		var size int
		size, err = nextSize(l.raw)
		if err == nil {
			l.grow(size)
			var oobn, flags int
			n, oobn, flags, _, err = l.conn.ReadMsgUnix(l.buf, l.oob)
			fds = parseRights(l.oob[:oobn])
			truncated = wasTruncated(flags)
		}
		switch {
		case err == nil:
			return n, fds, truncated, nil
		case errors.Is(err, io.EOF) && !l.isClosed():
			return 0, fds, false, io.EOF
		case errors.Is(err, syscall.ECONNRESET) && !reset:
			// The other side left without reading all that we sent. The kernel
			// says so once, before it hands out what the other side had sent:
			// the reason of a reject, perhaps.
			l.Discard(fds...)
			continue
		case l.isClosed():
			err = net.ErrClosed
		}
		return 0, fds, false, fmt.Errorf("receiving: %w", err)
	}
}

// grow makes room for a frame of size bytes. One byte more than the largest
// allowed is enough to see that a frame is too long.
func (l *Link) grow(size int) {
	if l.oob == nil {
		l.oob = make([]byte, rightsSpace(MaxFDs))
	}
	if l.buf != nil && size <= len(l.buf) {
		return
	}
	room := firstBuffer
	for room < size {
		room *= 2
	}
	l.buf = make([]byte, min(room, MaxMessage+1))
}

// SetReadDeadline makes Recv fail with an error that is
// os.ErrDeadlineExceeded at t; the zero time means never.
func (l *Link) SetReadDeadline(t time.Time) error { return l.conn.SetReadDeadline(t) }

// Discard closes descriptors that came with a message of this link, and waits for that:
// it is for the goroutine that calls Recv, so that a peer that makes it hang is not
// read from meanwhile.
func (l *Link) Discard(fds ...int) { DiscardWait(nil, fds...) }

// Close ends the connection: a Send or Recv under way fails, the other side
// sees the end. It may be called more than once, and does not wait.
func (l *Link) Close() error {
	l.once.Do(func() {
		close(l.closed)
		CloseConn(l.conn)
	})
	return nil
}

func (l *Link) isClosed() bool {
	select {
	case <-l.closed:
		return true
	default:
		return false
	}
}
