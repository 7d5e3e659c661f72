package worker

import (
	"io"
	"net/http"
)

// counted is the handler around the program's own: it counts requests and has
// each answer say Connection: close while the worker leaves.
//
// http.Server.SetKeepAlivesEnabled(false) would be simpler and loses requests:
// it closes idle connections at once, and after an answer that was already
// written without the header.
type counted struct {
	next    http.Handler
	t       *traffic
	parting func() bool
	rate    bodyRate // zero: none
	slow    func(*http.Request)
}

func (h *counted) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	begun := h.t.running.begin(h.t.requests.Add(1))
	h.t.inFlight.Add(1)
	defer h.end(begun)
	var b *body
	if h.rate.perSecond > 0 {
		if b, r = h.rate.watch(w, r, h.slow); b != nil {
			defer b.leave()
		}
	}
	if r.ProtoMajor == 1 {
		if w1, ok := w.(writer1); ok {
			if b != nil {
				p := &watched1{polite1: polite1{writer1: w1, parting: h.parting}, body: b}
				h.next.ServeHTTP(p, r)
				p.finish()
				return
			}
			p := &polite1{writer1: w1, parting: h.parting}
			h.next.ServeHTTP(p, r)
			p.headers(http.StatusOK) // a handler that wrote nothing
			return
		}
	}
	if w2, ok := w.(writer2); ok && !isGated(r) {
		p := &polite2{writer2: w2, parting: h.parting}
		h.next.ServeHTTP(p, r)
		p.headers(http.StatusOK)
		return
	}
	h.next.ServeHTTP(w, r)
}

func (h *counted) end(begun *begun) {
	h.t.running.end(begun)
	h.t.requestEnded()
}

// writer1 is all that net/http's writer for HTTP/1 can do; writer2 is HTTP/2's.
// What wraps them must be able to do as much: frameworks assert these.
type (
	writer1 interface {
		http.ResponseWriter
		http.Hijacker
		//lint:ignore SA1019 Gin asserts it
		http.CloseNotifier
		io.ReaderFrom
		io.StringWriter
		flusher
	}
	writer2 interface {
		http.ResponseWriter
		http.Pusher
		//lint:ignore SA1019 Gin asserts it
		http.CloseNotifier
		io.StringWriter
		flusher
	}
	flusher interface {
		http.Flusher
		FlushError() error
	}
)

// (What cannot be kept is net/http's private word with http.MaxBytesReader: a
// body over its limit is read on to 256 KiB, then the connection is closed.
// That is so behind Gin in any case.)

// polite1 asks at the last moment at which an answer's headers
// can still be changed: a request that began long before the drain says close
// too. It is made for each request and never pooled, since handlers may keep it.
type polite1 struct {
	writer1
	parting func() bool
	began   bool
}

// polite2 does the same for HTTP/2 without a gate, where a server turns the
// header into GOAWAY.
type polite2 struct {
	writer2
	parting func() bool
	began   bool
}

func (p *polite1) headers(code int) {
	if !p.began {
		p.began = sayClose(p, code, p.parting)
	}
}

func (p *polite2) headers(code int) {
	if !p.began {
		p.began = sayClose(p, code, p.parting)
	}
}

// sayClose reports whether code ends the headers. It asks for them only when
// they must change: net/http copies the headers of who has asked.
func sayClose(w http.ResponseWriter, code int, parting func() bool) bool {
	if code == http.StatusSwitchingProtocols {
		return true // its Connection header means something else
	}
	if code < http.StatusOK {
		return false // 103 Early Hints and the like; the answer is yet to come
	}
	if parting() {
		w.Header()["Connection"] = []string{"close"}
	}
	return true
}

func (p *polite1) WriteHeader(code int) {
	p.headers(code)
	p.writer1.WriteHeader(code)
}

func (p *polite1) Write(b []byte) (int, error) {
	p.headers(http.StatusOK)
	return p.writer1.Write(b)
}

func (p *polite1) WriteString(s string) (int, error) {
	p.headers(http.StatusOK)
	return p.writer1.WriteString(s)
}

func (p *polite1) ReadFrom(r io.Reader) (int64, error) {
	p.headers(http.StatusOK)
	return p.writer1.ReadFrom(r)
}

func (p *polite1) Flush() {
	p.headers(http.StatusOK)
	p.writer1.Flush()
}

func (p *polite1) FlushError() error {
	p.headers(http.StatusOK)
	return p.writer1.FlushError()
}

// Unwrap is for http.ResponseController, which sets deadlines through it.
func (p *polite1) Unwrap() http.ResponseWriter { return p.writer1 }

func (p *polite2) WriteHeader(code int) {
	p.headers(code)
	p.writer2.WriteHeader(code)
}

func (p *polite2) Write(b []byte) (int, error) {
	p.headers(http.StatusOK)
	return p.writer2.Write(b)
}

func (p *polite2) WriteString(s string) (int, error) {
	p.headers(http.StatusOK)
	return p.writer2.WriteString(s)
}

func (p *polite2) Flush() {
	p.headers(http.StatusOK)
	p.writer2.Flush()
}

func (p *polite2) FlushError() error {
	p.headers(http.StatusOK)
	return p.writer2.FlushError()
}

// Unwrap is for http.ResponseController.
func (p *polite2) Unwrap() http.ResponseWriter { return p.writer2 }
