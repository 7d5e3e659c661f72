package serve

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/masterd/masterd/pkg/worker/internal/goaway"
	"github.com/masterd/masterd/pkg/worker/internal/measure"
)

// instrumented is the handler around the program's own: it counts requests and has
// each answer say Connection: close while the worker leaves.
//
// http.Server.SetKeepAlivesEnabled(false) would be simpler and loses requests:
// it closes idle connections at once, and after an answer that was already
// written without the header.
type instrumented struct {
	next        http.Handler
	l           *Listener
	shouldClose func() bool
	slow        func(*http.Request)
}

func (h *instrumented) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	q := h.begin(r)
	defer func() { h.end(&q, r) }()
	var b *watchedBody
	if h.l.BodyRate.PerSecond > 0 {
		if b, r = h.l.BodyRate.watch(w, r, h.slow); b != nil {
			defer b.handlerDone()
		}
	}
	if r.ProtoMajor == 1 {
		if w1, ok := w.(writer1); ok {
			if b != nil {
				p := &watchedWriter1{closingWriter1: newClosingWriter1(w1, r, h.shouldClose), body: b}
				q.answer = &p.closingWriter
				h.next.ServeHTTP(p, r)
				h.returned(&q)
				p.finish()
				return
			}
			p := newClosingWriter1(w1, r, h.shouldClose)
			q.answer = &p.closingWriter
			h.next.ServeHTTP(&p, r)
			h.returned(&q)
			p.beforeHeaders(http.StatusOK) // a handler that wrote nothing
			return
		}
	}
	if w2, ok := w.(writer2); ok {
		shouldClose := h.shouldClose
		if goaway.IsFiltered(r) {
			shouldClose = never
		}
		p := newClosingWriter2(w2, shouldClose)
		q.answer = &p.closingWriter
		h.next.ServeHTTP(p, r)
		h.returned(&q)
		p.beforeHeaders(http.StatusOK)
		return
	}
	h.next.ServeHTTP(w, r)
	h.returned(&q)
}

func never() bool { return false }

// request is one that runs.
type request struct {
	n           uint64
	in          int64          // bytes of its body; below zero: not known
	head        bool           // net/http takes the body of the answer, and sends none
	began, took time.Duration  // took is below zero until the handler has returned
	answer      *closingWriter // nil: what it writes cannot be seen
}

// begin looks at what the program's handlers may change.
func (h *instrumented) begin(r *http.Request) request {
	n := h.l.traffic.requests.Add(1)
	h.l.requestBegun()
	return request{
		n: n, in: r.ContentLength, head: r.Method == http.MethodHead,
		began: h.l.traffic.requestTimes.begin(n), took: -1,
	}
}

func (h *instrumented) returned(q *request) { q.took = h.l.traffic.requestTimes.now() - q.began }

// end is called when the handler has returned, or panics, which goes on to net/http. The request
// is counted before it has ended: a worker that drains sends its numbers when none runs.
func (h *instrumented) end(q *request, r *http.Request) {
	h.l.traffic.requestTimes.end(q.n)
	a := measure.Answer{Class: 2, In: q.in, Took: q.took}
	if p := q.answer; p != nil {
		a.Class, a.Out = int(p.class), p.wrote
		if q.head {
			a.Out = 0
		}
	}
	if q.took < 0 { // a panic
		a.Class = 5
		h.returned(q)
		a.Took = q.took
	}
	if q.answer != nil && q.answer.switched {
		a.Took = -1
	}
	route := h.l.counts.Route(r.Pattern)
	route.Count(a)
	if slow := route.Slow(a.Took); slow || a.Class == 5 {
		unit := UnitOf(r.Context())
		if a.Class == 5 {
			unit.Failed()
		}
		if slow {
			unit.Slow()
		}
	}
	h.l.requestEnded()
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
// It knows what the answer is, for who counts. It is made for each request and never pooled,
// since handlers may keep it.
type closingWriter struct {
	writer
	shouldClose func() bool
	wrote       int64 // bytes of the body
	began       bool
	class       uint8 // of the status, as it is counted, once it began
	switched    bool  // to another protocol: it is no answer any more
}

// closingWriter1 does so for HTTP/1.
type closingWriter1 struct {
	closingWriter
	http1 writer1 // the writer once more
	r     *http.Request
}

// closingWriter2 does so for HTTP/2, where a server turns the header into GOAWAY; a filter
// does without it.
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
	if !p.began && setConnectionClose(p, code, p.shouldClose) {
		p.began, p.class, p.switched = true, uint8(measure.Class(code)), code == http.StatusSwitchingProtocols
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
	n, err := p.writer.Write(b)
	p.wrote += int64(n)
	return n, err
}

func (p *closingWriter) WriteString(s string) (int, error) {
	p.beforeHeaders(http.StatusOK)
	n, err := p.writer.WriteString(s)
	p.wrote += int64(n)
	return n, err
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
	n, err := p.http1.ReadFrom(r)
	p.wrote += n
	return n, err
}

func (p *closingWriter1) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	c, rw, err := p.http1.Hijack()
	if err == nil {
		if p.switched = true; !p.began { // the handler writes the status itself, if there is one
			p.began, p.class = true, 1
		}
		if m := clientConn(c); m != nil {
			m.Hijacked(p.r.Context())
		}
	}
	return c, rw, err
}
