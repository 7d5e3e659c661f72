// Package migrate moves a client's connection to another worker: Conn knows when it can leave,
// a Sender gives it away over a link that the master has made, a Receiver takes what other
// workers give. pkg/ipc/PROTOCOL.md specifies the messages on a link.
//
//	net/http's goroutine      old worker                    new worker
//	Read waits for a ───────▶ Conn: idle? ─▶ Sender's queue
//	request                                   │
//	                                          ▼
//	                          peerLink ── offer [descriptors] ──▶ Receiver
//	                             ◀────────── taken ──────────────┤
//	                             ─────────── yours ─────────────▶│ Target.TakeIdle: waits for
//	Read returns io.EOF ◀──── migrated                           │ the next request, then
//	                                                             ▼ net/http
//
// Conn is beneath every client connection and sees what net/http does with it. A connection
// moves only if net/http holds no byte of a next request: four conditions (idleConditions)
// and a look at the caller's stack say so. The tests leave out every choice of the five at
// each moment that they guard.
//
// The sender keeps a connection until the receiver has said that it could serve it, then
// decides, and can take an offer back at any moment before. So a receiver that is stopped
// costs its clients half a second (stallAfter), and one that dies costs what it had been
// given. Links pull from one queue, so load finds its own balance. The master only makes the
// links.
//
// A link that breaks is no answer: the sender does not know yet what the master makes of the
// receiver's end. Until a new link comes, for at most handOffTimeout, HandOff waits and
// answers ask no client to leave. Where the master has closed the links, or there were none,
// the answer is known at once.
//
// The listener that a connection belongs to is the package's user's: it gives each connection
// to Wrap, reports net/http's states to it, and is the Target for what other workers give.
package migrate

import (
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"sync"
	"syscall"
	"time"

	"github.com/masterd/masterd/pkg/worker/internal/measure"
)

// peekSize is the buffer that net/http reads into when it has nothing of a
// connection left over: bufio's default.
const peekSize = 4096

// stream is what a client's connection is beneath its wrapper: *net.TCPConn
// and *net.UnixConn are.
type stream interface {
	net.Conn
	syscall.Conn
	CloseRead() error
	CloseWrite() error
}

// Conn is the part of a client's connection that knows when it can leave for
// another worker: while net/http waits for a request on it and has not read a
// byte of one. It sees that from below, in what net/http does with the
// connection, since net/http itself does not tell.
//
// Whoever reads it gives it away: the Read that waits is interrupted by a deadline in the
// past, offers its own connection, and returns "end of file" once that is another worker's.
// So nobody can be reading what is given away.
//
// Its methods may be called by several goroutines, as those of a net.Conn; AwaitRequest and
// Resume by whoever has the connection, before anybody else does.
type Conn struct {
	stream   stream
	listener string  // the name of the listener that it came by
	sender   *Sender // nil: it stays here
	closed   func()  // called after each Close

	// Unit is what is known of it where versions are compared.
	Unit measure.Unit

	mu     sync.Mutex
	unread []byte // of a connection that was handed off: comes before what the kernel has
	life   life

	// What net/http does with it.
	state         http.ConnState
	neverRead     bool      // nothing was ever read from it
	readSinceIdle bool      // something was read since it became idle
	deadlines     int       // times that a read deadline was set since it became idle
	deadline      time.Time // the read deadline that is wanted; another is set while interrupted

	waiting     bool // somebody waits for its first byte and would let it go
	interrupted bool // by us: that deadline is not the wanted one
	offered     bool // another process may have a descriptor of it
	migrated    bool // it is another worker's

	lot lot // its place in the share that is to go
}

// StateChanged must be called by the server's ConnState hook.
func (c *Conn) StateChanged(s http.ConnState) {
	c.mu.Lock()
	c.state = s
	if s == http.StateIdle {
		c.readSinceIdle, c.deadlines = false, 0
	}
	c.mu.Unlock()
}

// condition is one that a connection must meet to be idle: net/http has no byte of a
// next request, neither in its buffers nor read just now. p is what the Read that is about
// to wait reads into. The connection's mu is held.
type condition func(c *Conn, p []byte) bool

// idleConditions are all of them. Each has lost somebody a request when it was left out.
var idleConditions = [...]condition{
	// Else a body is being read.
	func(c *Conn, _ []byte) bool { return c.state == http.StateIdle },
	// Else a request's first bytes have come, in pieces.
	func(c *Conn, _ []byte) bool { return !c.readSinceIdle },
	// net/http sets a deadline, then waits; it sets the next when it has the first bytes,
	// perhaps out of its own buffer, pipelined behind the last ones.
	func(c *Conn, _ []byte) bool { return c.deadlines == 1 },
	// Else net/http has some bytes already and wants more. (A read of one byte is the one
	// that watches for the client's leaving.)
	func(_ *Conn, p []byte) bool { return len(p) == peekSize },
}

// waitsIdle tells whether the Read that is about to wait would be missed by nobody. c.mu is
// held.
func (c *Conn) waitsIdle(p []byte) bool {
	if c.sender == nil || c.migrated || len(c.unread) > 0 {
		return false
	}
	if c.neverRead {
		return c.state == http.StateNew
	}
	for _, holds := range c.sender.conditions {
		if !holds(c, p) {
			return false
		}
	}
	return true
}

// confirmedByStack looks at the caller's stack before what waitsIdle has found is believed: that
// rests on how net/http happens to be made, and a version that is made otherwise shall move
// no connection rather than lose a request.
func confirmedByStack() bool {
	var pcs [16]uintptr
	frames := runtime.CallersFrames(pcs[:runtime.Callers(2, pcs[:])])
	for before := ""; ; {
		f, more := frames.Next()
		if f.Function == "net/http.(*conn).serve" {
			return before == "bufio.(*Reader).Peek"
		}
		if !more {
			return false
		}
		before = f.Function
	}
}

// read is Read of the wrapper.
func (c *Conn) read(p []byte) (int, error) {
	if n, ok := c.takeUnread(p); ok {
		return n, nil
	}
	n := 0
	err := c.await(p, func() (err error) {
		n, err = c.stream.Read(p)
		return err
	})
	if n == 0 && errors.Is(err, os.ErrDeadlineExceeded) {
		n, err = c.readAtDeadline(p, err)
	}
	if n > 0 {
		c.mu.Lock()
		if c.neverRead && n >= 3 && string(p[:3]) == "PRI" {
			c.sender = nil // HTTP/2: nothing of it is ever idle in this sense
		}
		c.neverRead, c.readSinceIdle = false, true
		c.mu.Unlock()
	}
	return n, err
}

func (c *Conn) takeUnread(p []byte) (int, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.unread) == 0 {
		return 0, false
	}
	n := copy(p, c.unread)
	c.unread = c.unread[n:]
	return n, true
}

// await waits with wait, a Read into p or something like it, and lets the
// connection go meanwhile if it can. io.EOF: it has moved.
func (c *Conn) await(p []byte, wait func() error) error {
	var asked uint64 // the sender's version in which nobody took it
	for woken := false; ; {
		moved, waits := c.tryMigrate(p, &asked)
		if woken {
			c.sender.interruptDone()
		}
		if moved {
			return io.EOF
		}
		err := wait()
		if !waits {
			return err
		}
		if woken = c.stopWaiting(); !woken {
			return err
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) { // its first byte was quicker, or its end
			c.sender.interruptDone()
			return err
		}
	}
}

// tryMigrate moves the connection if it may and can, else it notes that somebody is
// about to wait.
func (c *Conn) tryMigrate(p []byte, asked *uint64) (moved, waits bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for !c.migrated && c.waitsIdle(p) {
		// A change that comes after this look finds the connection waiting.
		version := c.sender.version.Load()
		if version == *asked || !c.sender.open.Load() || !c.inShare() || !c.neverRead && !c.sender.confirm() {
			c.waiting = true
			return false, true
		}
		*asked, c.offered = version, true
		c.mu.Unlock()
		err := c.sender.sendIdle(c)
		c.mu.Lock()
		c.migrated = err == nil
	}
	return c.migrated, false
}

// stopWaiting tells whether interrupt ended the wait, and sets the deadline that is wanted.
func (c *Conn) stopWaiting() (woken bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	woken = c.interrupted
	c.waiting, c.interrupted = false, false
	if woken {
		c.stream.SetReadDeadline(c.deadline)
	}
	return woken
}

// interrupt has a Read that waits offer its connection; false: none does, or it stays. Each true
// is followed by one call of the sender's interruptDone.
func (c *Conn) interrupt() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.waiting || c.interrupted || !c.inShare() {
		return false
	}
	c.interrupted = true
	c.stream.SetReadDeadline(time.Unix(1, 0))
	return true
}

func (c *Conn) setReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.deadlines++
	c.deadline = t
	if c.interrupted {
		return nil // set when that is over
	}
	return c.stream.SetReadDeadline(t)
}

func (c *Conn) setDeadline(t time.Time) error {
	return errors.Join(c.setReadDeadline(t), c.stream.SetWriteDeadline(t))
}

// writeTo is io.WriterTo of a connection whose next bytes may be here already.
func (c *Conn) writeTo(w io.Writer, from io.WriterTo) (int64, error) {
	c.mu.Lock()
	first := c.unread
	c.unread = nil
	c.mu.Unlock()
	n := 0
	if len(first) > 0 {
		var err error
		if n, err = w.Write(first); err != nil {
			return int64(n), err
		}
	}
	rest, err := from.WriteTo(w)
	return int64(n) + rest, err
}

// ifOwned does something to the connection that others would notice. What
// is another worker's is not touched any more.
func (c *Conn) ifOwned(do func() error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.migrated {
		return nil
	}
	return do()
}

// close closes our descriptor, which ends nothing once the connection has moved.
// And one that was offered, and not taken, may not end by it either: the other
// process may still hold a descriptor of it.
func (c *Conn) close() error {
	c.mu.Lock()
	if c.offered && !c.migrated {
		c.stream.CloseWrite()
		c.stream.CloseRead()
	}
	c.life.end()
	c.mu.Unlock()
	err := c.stream.Close()
	c.closed()
	return err
}
