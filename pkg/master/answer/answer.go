// Package answer is what clients get from the master itself while no worker is
// alive: a 503 that a load balancer and a person understand, a reset, or a
// bounded wait and then one of these.
package answer

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/masterd/masterd/pkg/ipc/fdpass"
)

// Modes, as unavailable.answer in the configuration.
const (
	Mode503   = "503"   // 503 where HTTP is spoken, a reset elsewhere
	ModeReset = "reset" // a reset everywhere
	ModeHold  = "hold"  // as 503, but only after the hold
)

const (
	// DefaultHold is how long ModeHold keeps a connection waiting.
	DefaultHold = 30 * time.Second
	// DefaultRetryAfter is when clients are asked to come back.
	DefaultRetryAfter = 5 * time.Second

	// maxAnswers is how many connections are answered or held at one time.
	// More are reset at once: the master has other things to do.
	maxAnswers = 1024
	// maxHead bounds a request's head that is read before it is answered, in bytes.
	maxHead = 16 << 10
	// headTimeout is how long a client may take to send it.
	headTimeout = 5 * time.Second
	// writeTimeout bounds the writing of an answer that is smaller than any buffer.
	writeTimeout = 2 * time.Second
	// lingerTimeout and maxLinger (in bytes) bound what is read after the
	// answer, so that a body still on its way does not turn it into a reset.
	lingerTimeout = 2 * time.Second
	maxLinger     = 1 << 20
)

// Answerer answers connections. It is safe for use from several goroutines.
type Answerer struct {
	mode  string
	hold  time.Duration
	reply []byte // the head of every 503
	body  []byte

	mu     sync.Mutex
	closed bool
	open   map[net.Conn]struct{}
	end    chan struct{} // closed by Close
	wait   sync.WaitGroup
}

// New makes an Answerer, which Close ends. hold is how long ModeHold keeps a
// connection waiting; retryAfter is when clients are asked to come back, in
// whole seconds, at least one. Zero stands for the default. A mode that is not
// known is Mode503.
func New(mode string, hold, retryAfter time.Duration) *Answerer {
	if hold <= 0 {
		hold = DefaultHold
	}
	if retryAfter <= 0 {
		retryAfter = DefaultRetryAfter
	}
	a := &Answerer{mode: mode, hold: hold, open: map[net.Conn]struct{}{}, end: make(chan struct{})}
	a.body = []byte("The service is not available at the moment. Please try again.\n")
	a.reply = fmt.Appendf(nil, "HTTP/1.1 503 Service Unavailable\r\n"+
		"Content-Type: text/plain; charset=utf-8\r\nContent-Length: %d\r\nCache-Control: no-store\r\n"+
		"Retry-After: %s\r\nConnection: close\r\n\r\n",
		len(a.body), strconv.Itoa(int(max(1, (retryAfter+time.Second-1)/time.Second))))
	return a
}

// Take answers a connection and closes it, beside its caller. http says that
// its client expects HTTP/1.1 in the clear.
func (a *Answerer) Take(c net.Conn, http bool) {
	if t, ok := c.(*net.TCPConn); ok {
		_ = t.SetLinger(-1) // it may have been the worker's that set it for its listener
	}
	c = fdpass.Guard(c)
	a.mu.Lock()
	refuse := a.closed || len(a.open) >= maxAnswers || a.mode == ModeReset || a.mode != ModeHold && !http
	if !refuse {
		a.open[c] = struct{}{}
		a.wait.Add(1)
	}
	a.mu.Unlock()
	if refuse {
		reset(c)
		return
	}
	go func() {
		defer a.wait.Done()
		a.answer(c, http)
		a.mu.Lock()
		delete(a.open, c)
		a.mu.Unlock()
	}()
}

// Close resets what is still open, and waits. Connections that come later are reset.
func (a *Answerer) Close() {
	a.mu.Lock()
	if !a.closed {
		a.closed = true
		close(a.end)
		for c := range a.open {
			_ = c.SetDeadline(time.Unix(1, 0)) // ends every read and write
		}
	}
	a.mu.Unlock()
	a.wait.Wait()
}

func (a *Answerer) answer(c net.Conn, http bool) {
	if a.mode == ModeHold && !a.held() || !http {
		reset(c)
		return
	}
	method, ok := a.readHead(c)
	if !ok {
		reset(c)
		return
	}
	reply := a.reply
	if method != "HEAD" {
		reply = append(bytes.Clone(reply), a.body...)
	}
	if !a.within(c, writeTimeout) {
		reset(c)
		return
	}
	if _, err := c.Write(reply); err != nil {
		reset(c)
		return
	}
	a.linger(c)
	_ = c.Close()
}

// held waits; false when the Answerer ends first.
func (a *Answerer) held() bool {
	t := time.NewTimer(a.hold)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-a.end:
		return false
	}
}

// within sets a deadline, unless Close has set its own.
func (a *Answerer) within(c net.Conn, d time.Duration) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return !a.closed && c.SetDeadline(time.Now().Add(d)) == nil
}

// readHead reads a request up to the empty line. Answering before would lose
// the answer: closing a connection with unread data in it resets it.
func (a *Answerer) readHead(c net.Conn) (method string, ok bool) {
	if !a.within(c, headTimeout) {
		return "", false
	}
	head := make([]byte, 0, 1<<10)
	for {
		n, err := c.Read(head[len(head):cap(head)])
		head = head[:len(head)+n]
		if len(head) > 0 && (head[0] < 'A' || head[0] > 'Z') {
			return "", false // TLS, or nothing that we know
		}
		if complete(head, n) {
			method, _, _ := bytes.Cut(head, []byte(" "))
			return string(method), string(method) != "PRI" // HTTP/2 would not understand
		}
		if err != nil || len(head) >= maxHead {
			return "", false
		}
		if len(head) == cap(head) {
			head = append(make([]byte, 0, 2*cap(head)), head...)
		}
	}
}

// complete looks for the empty line in the last n bytes.
func complete(head []byte, n int) bool {
	tail := head[max(0, len(head)-n-3):]
	return bytes.Contains(tail, []byte("\r\n\r\n")) || bytes.Contains(tail, []byte("\n\n"))
}

// linger lets the client close first, for a while.
func (a *Answerer) linger(c net.Conn) {
	if half, ok := c.(interface{ CloseWrite() error }); ok {
		if half.CloseWrite() != nil {
			return
		}
	}
	if !a.within(c, lingerTimeout) {
		return
	}
	// How it ends does not matter: the answer is out.
	_, _ = io.CopyN(io.Discard, c, maxLinger)
}

// reset closes so that the client knows at once.
func reset(c net.Conn) {
	if t, ok := c.(*net.TCPConn); ok {
		_ = t.SetLinger(0) // a connection that is gone already needs none
	}
	_ = c.Close()
}
