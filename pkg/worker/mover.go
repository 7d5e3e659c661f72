package worker

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

	"github.com/masterd/masterd/pkg/ipc"
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

// mover is the part of a client's connection that knows when it can leave for
// another worker: while net/http waits for a request on it and has not read a
// byte of one. It sees that from below, in what net/http does with the
// connection, since net/http itself does not say.
//
// A move is asked for by whoever reads: the Read that waits is woken by a
// deadline in the past, offers its own connection, and says "end of file" once
// that is somebody else's. So nobody can be reading what is given away.
type mover struct {
	stream   stream
	listener string
	handover *handover // nil: it never moves
	seat     *seat     // nil: nothing bounds how many there are

	mu     sync.Mutex
	unread []byte // of a connection that was handed off: comes before what the kernel has

	// What net/http does with it.
	state     http.ConnState
	fresh     bool      // nothing was ever read from it
	touched   bool      // something was read since it became idle
	deadlines int       // times that a read deadline was set since it became idle
	deadline  time.Time // the read deadline that is wanted; another is set while woken

	waiting bool // somebody waits for its first byte and would let it go
	woken   bool // by us: that deadline is not the wanted one
	offered bool // another process may have a descriptor of it
	moved   bool // it is another worker's
}

// hook is told what net/http's ConnState hook is.
func (m *mover) hook(s http.ConnState) {
	m.mu.Lock()
	m.state = s
	if s == http.StateIdle {
		m.touched, m.deadlines = false, 0
	}
	m.mu.Unlock()
}

// idle tells whether the Read that is about to wait would be missed by nobody:
// net/http has no byte of a next request, neither in its buffers nor read just
// now. m.mu is held.
//
// Each condition has lost somebody a request when it was left out:
//   - state: a body is being read.
//   - touched: a request's first bytes came in pieces.
//   - deadlines: net/http sets one, then waits; it sets the next when it has the
//     first bytes, perhaps out of its own buffer, pipelined behind the last ones.
//   - the buffer's size: net/http has some bytes already and wants more. (A read
//     of one byte is the one that watches for the client's leaving.)
func (m *mover) idle(p []byte) bool {
	if m.handover == nil || m.moved || len(m.unread) > 0 {
		return false
	}
	if m.fresh {
		return m.state == http.StateNew
	}
	skip := m.handover.skip
	return (m.state == http.StateIdle || skip&skipState != 0) &&
		(!m.touched || skip&skipTouched != 0) &&
		(m.deadlines == 1 || skip&skipDeadlines != 0) &&
		(len(p) == peekSize || skip&skipSize != 0)
}

// Conditions that a test can leave out, to show what they are there for.
const (
	skipState = 1 << iota
	skipTouched
	skipDeadlines
	skipSize
	skipStack
	skipAll = 1<<iota - 1
)

// certain looks at the stack before it believes what idle has found: idle rests
// on how net/http happens to be made, and a version that is made otherwise shall
// move nothing rather than lose something. m.mu is held.
func (m *mover) certain() bool {
	if m.fresh || m.handover.skip&skipStack != 0 {
		return true
	}
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
func (m *mover) read(p []byte) (int, error) {
	if n, ok := m.takeUnread(p); ok {
		return n, nil
	}
	n := 0
	err := m.await(p, func() (err error) {
		n, err = m.stream.Read(p)
		return err
	})
	if n == 0 && errors.Is(err, os.ErrDeadlineExceeded) {
		n, err = m.readLate(p, err)
	}
	if n > 0 {
		m.mu.Lock()
		if m.fresh && n >= 3 && string(p[:3]) == "PRI" {
			m.handover = nil // HTTP/2: nothing of it is ever idle in this sense
		}
		m.fresh, m.touched = false, true
		m.mu.Unlock()
	}
	return n, err
}

// readLate reads the request that came in the moment in which the time for being idle
// was over: net/http is about to close the connection, which would reset it.
func (m *mover) readLate(p []byte, over error) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.moved || m.state != http.StateIdle || m.touched || m.deadlines != 1 || !m.pending() {
		return 0, over
	}
	m.stream.SetReadDeadline(time.Time{}) // who reads now does not wait
	n, err := m.stream.Read(p)
	m.stream.SetReadDeadline(m.deadline)
	return n, err
}

func (m *mover) takeUnread(p []byte) (int, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.unread) == 0 {
		return 0, false
	}
	n := copy(p, m.unread)
	m.unread = m.unread[n:]
	return n, true
}

// await waits with wait, a Read into p or something like it, and lets the
// connection go meanwhile if it can. io.EOF: it has moved.
func (m *mover) await(p []byte, wait func() error) error {
	var asked uint64 // the handover's epoch in which nobody took it
	for woken := false; ; {
		moved, waits := m.leave(p, &asked)
		if woken {
			m.handover.awake()
		}
		if moved {
			return io.EOF
		}
		err := wait()
		if !waits {
			return err
		}
		if woken = m.stopWaiting(); !woken {
			return err
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) { // its first byte was quicker, or its end
			m.handover.awake()
			return err
		}
	}
}

// leave moves the connection if it may and can, else it notes that somebody is
// about to wait.
func (m *mover) leave(p []byte, asked *uint64) (moved, waits bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for !m.moved && m.idle(p) {
		// A change that comes after this look finds the connection waiting.
		epoch := m.handover.epoch.Load()
		if epoch == *asked || !m.handover.open.Load() || !m.certain() {
			m.waiting = true
			return false, true
		}
		*asked, m.offered = epoch, true
		m.mu.Unlock()
		err := m.handover.give(m)
		m.mu.Lock()
		m.moved = err == nil
	}
	return m.moved, false
}

// stopWaiting tells whether the wait was ended by wake, and undoes what wake did.
func (m *mover) stopWaiting() (woken bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	woken = m.woken
	m.waiting, m.woken = false, false
	if woken {
		m.stream.SetReadDeadline(m.deadline)
	}
	return woken
}

// wake has a Read that waits offer its connection; false: none does. Each true
// is followed by one call of the handover's awake.
func (m *mover) wake() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.waiting || m.woken {
		return false
	}
	m.woken = true
	m.stream.SetReadDeadline(time.Unix(1, 0))
	return true
}

func (m *mover) setReadDeadline(t time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.deadlines++
	m.deadline = t
	if m.woken {
		return nil // set when that is over
	}
	return m.stream.SetReadDeadline(t)
}

func (m *mover) setDeadline(t time.Time) error {
	return errors.Join(m.setReadDeadline(t), m.stream.SetWriteDeadline(t))
}

// writeTo is io.WriterTo of a connection whose next bytes may be here already.
func (m *mover) writeTo(w io.Writer, from io.WriterTo) (int64, error) {
	m.mu.Lock()
	first := m.unread
	m.unread = nil
	m.mu.Unlock()
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

// unlessGone does something to the connection that others would notice. What
// is another worker's is not touched any more.
func (m *mover) unlessGone(do func() error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.moved {
		return nil
	}
	return do()
}

// end closes our descriptor, which ends nothing once the connection has moved.
// And one that was offered, and not taken, may not end by it either: the other
// process may still hold a descriptor of it.
func (m *mover) end(as member, in *census) error {
	m.mu.Lock()
	if m.offered && !m.moved {
		m.stream.CloseWrite()
		m.stream.CloseRead()
	}
	m.mu.Unlock()
	err := m.stream.Close()
	in.leave(as)
	m.seat.free()
	return err
}

// request asks for one connection to be moved.
type request struct {
	mover   *mover
	parcel  *ipc.Offer // what the program sends along; nil: it is between two requests
	verdict chan error // nil: it has moved. Has room for it
}

func (m *mover) ask(parcel *ipc.Offer) *request {
	return &request{mover: m, parcel: parcel, verdict: make(chan error, 1)}
}
