package serve

import (
	"bufio"
	"io"
	"net"
	"net/http"

	"github.com/masterd/masterd/pkg/worker/internal/goaway"
)

// instrumented is the handler around the program's own: it counts requests and has
// each answer say Connection: close while the worker leaves.
//
// http.Server.SetKeepAlivesEnabled(false) would be simpler and loses requests:
// it closes idle connections at once, and after an answer that was already
// written without the header.
type instrumented struct {
	next        http.Handler
	t           *Traffic
	shouldClose func() bool
	rate        BodyRate // zero: none
	slow        func(*http.Request)
}

func (h *instrumented) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	n := h.t.requests.Add(1)
	h.t.requestTimes.begin(n)
	h.t.inFlight.Add(1)
	defer h.end(n)
	var b *watchedBody
	if h.rate.PerSecond > 0 {
		if b, r = h.rate.watch(w, r, h.slow); b != nil {
			defer b.handlerDone()
		}
	}
	if r.ProtoMajor == 1 {
		if w1, ok := w.(writer1); ok {
			if b != nil {
				p := &watchedWriter1{closingWriter1: newClosingWriter1(w1, r, h.shouldClose), body: b}
				h.next.ServeHTTP(p, r)
				p.finish()
				return
			}
			p := newClosingWriter1(w1, r, h.shouldClose)
			h.next.ServeHTTP(&p, r)
			p.beforeHeaders(http.StatusOK) // a handler that wrote nothing
			return
		}
	}
	if w2, ok := w.(writer2); ok && !goaway.IsFiltered(r) {
		p := newClosingWriter2(w2, h.shouldClose)
		h.next.ServeHTTP(p, r)
		p.beforeHeaders(http.StatusOK)
		return
	}
	h.next.ServeHTTP(w, r)
}

func (h *instrumented) end(n uint64) {
	h.t.requestTimes.end(n)
	h.t.requestEnded()
}

// writer1 is all that net/http's writer for HTTP/1 can do; writer2 is HTTP/2's.
// What wraps them must be able to do as much: frameworks assert these.
type (
	writer interface {
		http.ResponseWriter
		//lint:ignore SA1019 Gin asserts it
		http.CloseNotifier
		io.StringWriter
		http.Flusher
		FlushError() error
	}
	writer1 interface {
		writer
		http.Hijacker
		io.ReaderFrom
	}
	writer2 interface {
		writer
		http.Pusher
	}
)

// (What cannot be kept is net/http's private word with http.MaxBytesReader: a
// body over its limit is read on to 256 KiB, then the connection is closed.
// That is so behind Gin in any case.)

// closingWriter sets Connection: close, where it shall, at the last moment at which an
// answer's headers can still be changed: also for a request that began long before the drain.
// It is made for each request and never pooled, since handlers may keep it.
type closingWriter struct {
	writer
	shouldClose func() bool
	began       bool
}

// closingWriter1 does so for HTTP/1.
type closingWriter1 struct {
	closingWriter
	http1 writer1 // the writer once more
	r     *http.Request
}

// closingWriter2 does so for HTTP/2 without a filter, where a server turns the header
// into GOAWAY.
type closingWriter2 struct {
	closingWriter
	http.Pusher
}

func newClosingWriter1(w writer1, r *http.Request, shouldClose func() bool) closingWriter1 {
	return closingWriter1{closingWriter{writer: w, shouldClose: shouldClose}, w, r}
}

func newClosingWriter2(w writer2, shouldClose func() bool) *closingWriter2 {
	return &closingWriter2{closingWriter{writer: w, shouldClose: shouldClose}, w}
}

func (p *closingWriter) beforeHeaders(code int) {
	if !p.began {
		p.began = setConnectionClose(p, code, p.shouldClose)
	}
}

// setConnectionClose reports whether code ends the headers. It asks for them only when
// they must change: net/http copies the headers of who has asked.
func setConnectionClose(w http.ResponseWriter, code int, shouldClose func() bool) bool {
	if code == http.StatusSwitchingProtocols {
		return true // its Connection header means something else
	}
	if code < http.StatusOK {
		return false // 103 Early Hints and the like; the answer is yet to come
	}
	if shouldClose() {
		w.Header()["Connection"] = []string{"close"}
	}
	return true
}

func (p *closingWriter) WriteHeader(code int) {
	p.beforeHeaders(code)
	p.writer.WriteHeader(code)
}

func (p *closingWriter) Write(b []byte) (int, error) {
	p.beforeHeaders(http.StatusOK)
	return p.writer.Write(b)
}

func (p *closingWriter) WriteString(s string) (int, error) {
	p.beforeHeaders(http.StatusOK)
	return p.writer.WriteString(s)
}

func (p *closingWriter) Flush() {
	p.beforeHeaders(http.StatusOK)
	p.writer.Flush()
}

func (p *closingWriter) FlushError() error {
	p.beforeHeaders(http.StatusOK)
	return p.writer.FlushError()
}

// Unwrap is for http.ResponseController, which sets deadlines through it.
func (p *closingWriter) Unwrap() http.ResponseWriter { return p.writer }

func (p *closingWriter1) ReadFrom(r io.Reader) (int64, error) {
	p.beforeHeaders(http.StatusOK)
	return p.http1.ReadFrom(r)
}

func (p *closingWriter1) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	c, rw, err := p.http1.Hijack()
	if err == nil {
		if m := clientConn(c); m != nil {
			m.Hijacked(p.r.Context())
		}
	}
	return c, rw, err
}
