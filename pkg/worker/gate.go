package worker

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
	prefacePatience = 10 * time.Second // for what a client begins HTTP/2 with, over TLS; net/http's own limit
	lingerSilence   = 5 * time.Second  // without a byte from a client that was told to leave, and whose connection ends, before it is closed
	lingerMost      = time.Minute      // for all of that
)

// gate sits on an HTTP/2 connection beneath net/http's server. It follows the
// frames that pass, and can put one of its own between two others: towards the
// client, and towards the server as if the client had sent it. That is how a
// connection is made to leave, see goaway.go. HTTP/1 never meets a gate.
type gate struct {
	net.Conn          // beneath: *tls.Conn, or the client's connection itself
	base     net.Conn // the latter
	of       *partings
	began    time.Time

	// Of who reads: the server has one goroutine for that.
	in      frames
	heard   bool // a frame of the client's has come
	isPong  bool // the frame at hand answers a PING
	pong    [pingLength]byte
	pongLen int
	fed     bool   // the server was given a GOAWAY
	feed    []byte // what is left of it

	dismissed atomic.Bool   // the server shall be given one
	waking    atomic.Bool   // a deadline in the past was set, for a Read that waits to look at that
	acked     chan struct{} // closed when our PING was answered

	// Of whoever holds w. A write that blocks holds it for as long.
	w       sync.Mutex
	out     frames
	greets  bool  // the server's preface, a SETTINGS frame, has begun
	broken  error // of the first write that failed for good: nothing may follow half a frame
	pending atomic.Bool
	due     struct { // frames that wait for a gap between two others
		sync.Mutex
		b []byte
	}

	told   atomic.Bool // it leaves
	mu     sync.Mutex  // of closing
	ending bool
	closed chan struct{} // closed when ending is set
}

// gateTLS is a gate that net/http finds the handshake's outcome on.
type gateTLS struct {
	*gate
	tls *tls.Conn
}

func (g gateTLS) ConnectionState() tls.ConnectionState { return g.tls.ConnectionState() }

// beneath is the connection as the program knows it.
func (g *gate) beneath() net.Conn { return g.Conn }

func newGate(c, base net.Conn, of *partings) *gate {
	return &gate{Conn: c, base: base, of: of, began: time.Now(), acked: make(chan struct{}), closed: make(chan struct{})}
}

// The keys of http.Server.TLSNextProto that HTTP/2 is found by. The second is
// how net/http passes on connections without TLS whose preface it has read, and
// not for everybody's use; where it is missing there are no gates, and HTTP/2
// leaves as net/http has it.
const (
	protoH2  = "h2"
	protoH2C = "unencrypted_http2"
)

// gateHTTP2 has a server take HTTP/2 through gates, whoever implements it.
func gateHTTP2(s *http.Server, of *partings) {
	prepareHTTP2(s)
	serve := s.TLSNextProto[protoH2C]
	if serve == nil {
		return
	}
	s.TLSNextProto = maps.Clone(s.TLSNextProto) // the program may have set it, for two servers
	s.TLSNextProto[protoH2C] = func(hs *http.Server, c *tls.Conn, h http.Handler) {
		e, ok := c.NetConn().(interface{ UnencryptedNetConn() net.Conn })
		if !ok {
			serve(hs, c, h)
			return
		}
		nc := e.UnencryptedNetConn()
		g := newGate(nc, nc, of)
		of.join(g)
		serve(hs, enveloped(g), gatedHandler(h))
	}
	if s.TLSNextProto[protoH2] == nil {
		return
	}
	s.TLSNextProto[protoH2] = func(hs *http.Server, c *tls.Conn, h http.Handler) {
		if !readPreface(c) {
			return // net/http closes it
		}
		g := newGate(c, c.NetConn(), of)
		of.join(g)
		serve(hs, enveloped(gateTLS{g, c}), gatedHandler(h))
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
func (endedListener) Addr() net.Addr            { return loopback() }

// envelope is how net/http passes a connection without TLS where one with TLS is
// expected.
type envelope struct {
	net.Conn
	content net.Conn
}

func (e envelope) UnencryptedNetConn() net.Conn { return e.content }

func enveloped(c net.Conn) *tls.Conn { return tls.Client(envelope{c, c}, nil) }

// readPreface takes what a client begins with from a connection with TLS; false:
// it came with something else, or not in time.
func readPreface(c *tls.Conn) bool {
	var b [len(h2Preface)]byte
	c.SetReadDeadline(time.Now().Add(prefacePatience))
	_, err := io.ReadFull(c, b[:])
	c.SetReadDeadline(time.Time{})
	return err == nil && string(b[:]) == h2Preface
}

// gated is a handler whose requests know that they came through a gate.
type gated struct {
	http.Handler
	ctx context.Context
}

type gateKey struct{}

// BaseContext is what net/http asks handlers of its own for.
func (h gated) BaseContext() context.Context { return h.ctx }

func gatedHandler(h http.Handler) http.Handler {
	ctx := context.Background()
	if b, ok := h.(interface{ BaseContext() context.Context }); ok {
		ctx = b.BaseContext()
	}
	return gated{h, context.WithValue(ctx, gateKey{}, true)}
}

// isGated: the request's connection leaves by itself.
func isGated(r *http.Request) bool { return r.Context().Value(gateKey{}) != nil }

func (g *gate) Read(b []byte) (int, error) {
	for {
		if g.dismissed.Load() && !g.fed && g.heard && g.in.between() {
			g.fed, g.feed = true, goAway(0)
		}
		if len(g.feed) > 0 {
			n := copy(b, g.feed)
			g.feed = g.feed[n:]
			return n, nil
		}
		n, err := g.Conn.Read(b)
		if n > 0 {
			g.follow(b[:n])
			return n, err
		}
		if err == nil || !errors.Is(err, os.ErrDeadlineExceeded) || !g.awake() {
			return n, err
		}
	}
}

// follow looks at what came from the client.
func (g *gate) follow(b []byte) {
	for len(b) > 0 {
		n, head := g.in.take(b)
		switch {
		case head:
			g.heard = true
			g.isPong = g.in.kind() == framePing && g.in.flags()&flagAck != 0 && g.in.left == pingLength
			g.pongLen = 0
		case g.isPong:
			g.pongLen += copy(g.pong[g.pongLen:], b[:n])
			if g.pongLen == pingLength && g.pong == barrier {
				g.isPong = false
				closeOnce(g.acked)
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

// dismiss has the server read a GOAWAY, at the end of the frame that the client
// is sending. A client that never ends it keeps its connection until it is cut.
func (g *gate) dismiss() {
	g.dismissed.Store(true)
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.ending {
		g.waking.Store(true)
		g.Conn.SetReadDeadline(time.Unix(1, 0))
	}
}

// awake tells whether a Read was ended by dismiss.
func (g *gate) awake() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.ending || !g.waking.Swap(false) {
		return false
	}
	g.Conn.SetReadDeadline(time.Time{})
	return true
}

func (g *gate) Write(b []byte) (int, error) {
	g.w.Lock()
	n := 0
	var err error
	if g.pending.Load() {
		// Up to the first gap, which what is due goes into. A long answer may
		// never be written so that a frame and a buffer end together.
		before := g.out
		if at := before.seek(b); at < len(b) {
			if n, err = g.pass(b[:at]); err == nil {
				g.insert()
			}
		}
	}
	if err == nil {
		var rest int
		rest, err = g.pass(b[n:])
		n += rest
	}
	g.w.Unlock()
	g.pump()
	return n, err
}

// pass writes for the server. The caller holds w.
func (g *gate) pass(b []byte) (int, error) {
	if g.broken != nil {
		return 0, g.broken
	}
	if len(b) == 0 {
		return 0, nil
	}
	n, err := g.Conn.Write(b)
	g.out.walk(b[:n])
	g.greets = true
	if !errors.Is(err, os.ErrDeadlineExceeded) { // then the server may go on where it was
		g.broken = err
	}
	return n, err
}

// say has frames go out as soon as there is a gap: now, or in the middle of
// what the server writes next.
func (g *gate) say(b []byte) {
	g.due.Lock()
	g.due.b = append(g.due.b, b...)
	g.pending.Store(true)
	g.due.Unlock()
	g.pump()
}

// pump looks for a gap when nobody writes. Whoever holds w looks himself when
// he is done; the loop is for what became due after he looked.
func (g *gate) pump() {
	for g.pending.Load() && g.w.TryLock() {
		done := g.insert()
		g.w.Unlock()
		if !done {
			return // within a frame; the server must write on to end it
		}
	}
}

// insert writes what is due if this is a gap. The caller holds w.
func (g *gate) insert() bool {
	if !g.greets || !g.out.between() || g.broken != nil {
		return false
	}
	g.due.Lock()
	b := g.due.b
	g.due.b = nil
	g.pending.Store(false)
	g.due.Unlock()
	_, g.broken = g.Conn.Write(b)
	return true
}

// Close is the server's end of the connection.
func (g *gate) Close() error {
	g.mu.Lock()
	first := !g.ending
	g.ending = true
	g.mu.Unlock()
	if first {
		close(g.closed)
		g.of.part(g)
		if g.told.Load() {
			g.linger()
		}
	}
	return g.Conn.Close()
}

// linger waits until the client has closed too. A connection that is closed
// while the client still sends (acknowledgements, window updates) is reset, and
// an answer that the client has not read yet is gone with it.
func (g *gate) linger() {
	base, ok := g.base.(interface{ CloseWrite() error })
	if !ok {
		return
	}
	g.base.SetWriteDeadline(time.Now().Add(lingerSilence)) // for a write that blocks, which TLS would wait for
	if t, ok := g.Conn.(*tls.Conn); ok {
		t.CloseWrite()
	}
	base.CloseWrite()
	var b [512]byte
	for end := time.Now().Add(lingerMost); time.Now().Before(end); {
		g.base.SetReadDeadline(time.Now().Add(lingerSilence))
		if _, err := g.base.Read(b[:]); err != nil {
			return
		}
	}
}
