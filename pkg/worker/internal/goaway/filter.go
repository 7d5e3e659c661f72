package goaway

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

const (
	prefaceTimeout = 10 * time.Second // for what a client begins HTTP/2 with, over TLS; net/http's own limit
	lingerSilence  = 5 * time.Second  // without a byte from a client whose connection ends, before it is closed
	lingerMost     = time.Minute      // for all of that
)

// filter sits on an HTTP/2 connection beneath net/http's server. It follows the
// frames that pass, and can put one of its own between two others: towards the
// client, and towards the server as if the client had sent it. That is how a
// connection is shut down gracefully, see tracker.go. HTTP/1 never meets a filter.
//
// net/http closes it. Read is called by the server's reading goroutine alone.
type filter struct {
	net.Conn          // beneath: *tls.Conn, or the client's connection itself
	base     net.Conn // the latter
	tracker  *Tracker
	created  time.Time

	// Of who reads: the server has one goroutine for that.
	in        frames
	frameSeen bool // a frame of the client's has come
	isPong    bool // the frame at hand answers a PING
	pong      [pingLength]byte
	pongLen   int
	injected  bool   // the server was given a GOAWAY
	injecting []byte // what is left of it

	shutdownRequested atomic.Bool   // the server shall be given one
	interrupting      atomic.Bool   // a deadline in the past was set, for a Read that waits to look at that
	acked             chan struct{} // closed when our PING was answered

	out        frameWriter // towards the client
	goawaySent atomic.Bool // it leaves
	mu         sync.Mutex  // of closing
	ending     bool
	closed     chan struct{} // closed when ending is set
}

// filterTLS is a filter that net/http finds the handshake's outcome on.
type filterTLS struct {
	*filter
	tls *tls.Conn
}

func (f filterTLS) ConnectionState() tls.ConnectionState { return f.tls.ConnectionState() }

func (f *filter) beneath() net.Conn { return f.Conn }

// Underlying is the connection that a server was given before its HTTP/2 was filtered:
// c itself, or what is beneath its filter.
func Underlying(c net.Conn) net.Conn {
	if g, ok := c.(interface{ beneath() net.Conn }); ok {
		return g.beneath()
	}
	return c
}

func newFilter(c, base net.Conn, of *Tracker) *filter {
	return &filter{
		Conn: c, base: base, tracker: of, created: time.Now(), out: frameWriter{conn: c},
		acked: make(chan struct{}), closed: make(chan struct{}),
	}
}

// The keys of http.Server.TLSNextProto that HTTP/2 is found by. The second is
// how net/http passes on connections without TLS whose preface it has read, and
// not for everybody's use; where it is missing there are no filters, and HTTP/2
// leaves as net/http has it.
const (
	ProtoHTTP2      = "h2"                // with TLS; also the name that clients are offered
	protoHTTP2Plain = "unencrypted_http2" // without
)

// Filter has a server take HTTP/2 through filters, whoever implements it, and t know of
// each of its connections. It is called before the server serves.
func Filter(s *http.Server, t *Tracker) {
	prepareHTTP2(s)
	serve := s.TLSNextProto[protoHTTP2Plain]
	if serve == nil {
		return
	}
	s.TLSNextProto = maps.Clone(s.TLSNextProto) // the program may have set it, for two servers
	s.TLSNextProto[protoHTTP2Plain] = func(hs *http.Server, c *tls.Conn, h http.Handler) {
		e, ok := c.NetConn().(interface{ UnencryptedNetConn() net.Conn })
		if !ok {
			serve(hs, c, h)
			return
		}
		nc := e.UnencryptedNetConn()
		g := newFilter(nc, nc, t)
		t.add(g)
		serve(hs, asTLSConn(g), filteredHandler(h))
	}
	if s.TLSNextProto[ProtoHTTP2] == nil {
		return
	}
	s.TLSNextProto[ProtoHTTP2] = func(hs *http.Server, c *tls.Conn, h http.Handler) {
		if !readPreface(c) {
			return // net/http closes it
		}
		g := newFilter(c, c.NetConn(), t)
		t.add(g)
		serve(hs, asTLSConn(filterTLS{g, c}), filteredHandler(h))
	}
}

// prepareHTTP2 has net/http set up its HTTP/2, which it does when it serves.
func prepareHTTP2(s *http.Server) {
	base := s.BaseContext
	s.BaseContext = nil // the program's need not see this
	s.Serve(endedListener{})
	s.BaseContext = base
}

// endedListener is over before it has begun.
type endedListener struct{}

func (endedListener) Accept() (net.Conn, error) { return nil, net.ErrClosed }
func (endedListener) Close() error              { return nil }
func (endedListener) Addr() net.Addr            { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)} }

// envelope is how net/http passes a connection without TLS where one with TLS is
// expected.
type envelope struct {
	net.Conn
	content net.Conn
}

func (e envelope) UnencryptedNetConn() net.Conn { return e.content }

func asTLSConn(c net.Conn) *tls.Conn { return tls.Client(envelope{c, c}, nil) }

// readPreface takes what a client begins with from a connection with TLS; false:
// it came with something else, or not in time.
func readPreface(c *tls.Conn) bool {
	var b [len(h2Preface)]byte
	c.SetReadDeadline(time.Now().Add(prefaceTimeout))
	_, err := io.ReadFull(c, b[:])
	c.SetReadDeadline(time.Time{})
	return err == nil && string(b[:]) == h2Preface
}

// filtered is a handler whose requests know that they came through a filter.
type filtered struct {
	http.Handler
	ctx context.Context
}

type filteredKey struct{}

// BaseContext is what net/http asks handlers of its own for.
func (h filtered) BaseContext() context.Context { return h.ctx }

func filteredHandler(h http.Handler) http.Handler {
	ctx := context.Background()
	if b, ok := h.(interface{ BaseContext() context.Context }); ok {
		ctx = b.BaseContext()
	}
	return filtered{h, context.WithValue(ctx, filteredKey{}, true)}
}

// IsFiltered tells whether the request's connection is shut down by its filter, so that the
// answer need not ask for it.
func IsFiltered(r *http.Request) bool { return r.Context().Value(filteredKey{}) != nil }

func (f *filter) Read(b []byte) (int, error) {
	for {
		if f.shutdownRequested.Load() && !f.injected && f.frameSeen && f.in.atGap() {
			f.injected, f.injecting = true, goAway(0)
		}
		if len(f.injecting) > 0 {
			n := copy(b, f.injecting)
			f.injecting = f.injecting[n:]
			return n, nil
		}
		n, err := f.Conn.Read(b)
		if n > 0 {
			f.follow(b[:n])
			return n, err
		}
		if err == nil || !errors.Is(err, os.ErrDeadlineExceeded) || !f.interrupted() {
			return n, err
		}
	}
}

// follow looks at what came from the client.
func (f *filter) follow(b []byte) {
	for len(b) > 0 {
		n, head := f.in.step(b)
		switch {
		case head:
			f.frameSeen = true
			f.isPong = f.in.kind() == framePing && f.in.flags()&flagAck != 0 && f.in.left == pingLength
			f.pongLen = 0
		case f.isPong:
			f.pongLen += copy(f.pong[f.pongLen:], b[:n])
			if f.pongLen == pingLength && f.pong == PingPayload {
				f.isPong = false
				closeOnce(f.acked)
			}
		}
		b = b[n:]
	}
}

// closeOnce closes a channel that only one goroutine closes.
func closeOnce(ch chan struct{}) {
	select {
	case <-ch:
	default:
		close(ch)
	}
}

// requestShutdown has the server read a GOAWAY, at the end of the frame that the client
// is sending. A client that never ends it keeps its connection until it is cut.
func (f *filter) requestShutdown() {
	f.shutdownRequested.Store(true)
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.ending {
		f.interrupting.Store(true)
		f.Conn.SetReadDeadline(time.Unix(1, 0))
	}
}

// interrupted tells whether a Read was ended by requestShutdown.
func (f *filter) interrupted() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ending || !f.interrupting.Swap(false) {
		return false
	}
	f.Conn.SetReadDeadline(time.Time{})
	return true
}

func (f *filter) Write(b []byte) (int, error) { return f.out.Write(b) }

// Close is the server's end of the connection.
func (f *filter) Close() error {
	f.mu.Lock()
	first := !f.ending
	f.ending = true
	f.mu.Unlock()
	if first {
		close(f.closed)
		f.tracker.remove(f)
		if f.goawaySent.Load() {
			f.lingeringClose()
		}
	}
	return f.Conn.Close()
}

// lingeringClose waits until the client has closed too. A connection that is closed
// while the client still sends (acknowledgements, window updates) is reset, and
// an answer that the client has not read yet is gone with it.
func (f *filter) lingeringClose() {
	base, ok := f.base.(interface{ CloseWrite() error })
	if !ok {
		return
	}
	f.base.SetWriteDeadline(time.Now().Add(lingerSilence)) // for a write that blocks, which TLS would wait for
	if t, ok := f.Conn.(*tls.Conn); ok {
		t.CloseWrite()
	}
	base.CloseWrite()
	var b [512]byte
	for end := time.Now().Add(lingerMost); time.Now().Before(end); {
		f.base.SetReadDeadline(time.Now().Add(lingerSilence))
		if _, err := f.base.Read(b[:]); err != nil {
			return
		}
	}
}
