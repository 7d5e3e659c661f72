package worker

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"time"
)

// DefaultBodyGrace is MinBodyRate's grace where none is given.
const DefaultBodyGrace = 10 * time.Second

const (
	maxDiscard    = 256 << 10 // bytes of a body that nobody has read, and that net/http reads to keep the connection
	headersLeave  = 2048      // bytes of an answer that net/http holds back before its headers go out
	maxBodyCredit = time.Hour // a longer grace is cut to that
)

// ErrSlowBody is what reading a request's body returns when its client was slower
// than [MinBodyRate].
var ErrSlowBody = errors.New("the client sends the request's body too slowly")

// MinBodyRate bounds how long clients may take to send the bodies of requests; zero,
// the default: nothing does, since whatever ends a slow upload ends one that could have
// been kept. A client may be silent for grace (none: [DefaultBodyGrace]) in all, and wins back a
// second for every bytesPerSecond that come, up to grace again. Only the time counts
// in which the body is waited for: a handler that reads slowly costs its client
// nothing. Who is too slow has [ErrSlowBody] read from the body; the handler answers
// as it likes, and an HTTP/1 connection is closed after that. A body that the
// handler does not read is bounded too, as far as net/http reads it.
//
// Answers that a client reads slowly are not bounded by this: set WriteTimeout by
// [Server], or a deadline before each write with [http.ResponseController].
func MinBodyRate(bytesPerSecond int, grace time.Duration) ListenerOption {
	if grace <= 0 {
		grace = DefaultBodyGrace
	}
	return func(l *listener) { l.bodyRate = bodyRate{max(0, bytesPerSecond), min(grace, maxBodyCredit)} }
}

// bodyRate is what clients owe; zero: nothing.
type bodyRate struct {
	perSecond int
	grace     time.Duration
}

// earns is the time for n bytes.
func (r bodyRate) earns(n int) time.Duration {
	return time.Duration(float64(n) / float64(r.perSecond) * float64(time.Second))
}

// body is a request's whose client is watched. It may be read and closed by several
// goroutines, as net/http's own.
type body struct {
	io.ReadCloser // net/http's
	rate          bodyRate
	onSlow        func(*http.Request)
	breakReads    func(time.Time) error // sets a deadline for reading

	request, original *http.Request // as the handler has it, and as net/http has it
	http1             bool
	expects           bool // that it is told to go on (100-continue) by the first read

	mu     sync.Mutex
	credit time.Duration // for which it may be silent
	inside int           // calls that wait for the client
	since  time.Time     // when inside became 1
	timer  *time.Timer   // of the credit
	got    int64         // bytes
	read   bool          // somebody began to
	over   bool          // nothing more comes, or net/http must not be told any more
	slow   bool
}

// watch has a request's body watched; b is nil where it has none. The request is
// copied: net/http looks at its own body's type before it keeps a connection.
func (r bodyRate) watch(w http.ResponseWriter, req *http.Request, onSlow func(*http.Request)) (b *body, copied *http.Request) {
	if req.Body == nil || req.Body == http.NoBody {
		return nil, req
	}
	b = &body{
		ReadCloser: req.Body, rate: r, credit: r.grace, onSlow: onSlow, breakReads: http.NewResponseController(w).SetReadDeadline,
		http1: req.ProtoMajor == 1, expects: req.ProtoAtLeast(1, 1) && req.Header.Get("Expect") != "",
	}
	b.original, b.request = req, req.WithContext(req.Context())
	b.request.Body = b
	return b, b.request
}

func (b *body) Read(p []byte) (int, error) {
	if !b.begin() {
		return 0, ErrSlowBody
	}
	n, err := b.ReadCloser.Read(p)
	return n, b.ended(n, err)
}

func (b *body) Close() error {
	b.discard() // what net/http would read now
	if b.begin() {
		defer b.ended(0, io.EOF)
	}
	return b.ReadCloser.Close()
}

// begin is called before something that may wait for the client; false: it was too slow.
func (b *body) begin() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.slow {
		return false
	}
	b.read = true
	if b.inside++; b.inside == 1 && !b.over {
		b.since = time.Now()
		if b.timer == nil {
			b.timer = time.AfterFunc(b.credit, b.late)
		} else {
			b.timer.Reset(b.credit)
		}
	}
	return true
}

// ended is called after it, and says what the reader is told.
func (b *body) ended(n int, err error) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.got += int64(n)
	b.credit += b.rate.earns(n)
	if b.inside--; b.inside == 0 && b.timer != nil {
		b.timer.Stop()
		b.credit = min(b.rate.grace, b.credit-time.Since(b.since))
	}
	if b.slow && err != nil {
		return ErrSlowBody
	}
	if err == io.EOF {
		b.over = true
		if b.request.Trailer == nil && b.original.Trailer != nil {
			b.request.Trailer = b.original.Trailer // one that was not announced
		}
	}
	return err
}

// late is called when the credit may be used up.
func (b *body) late() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.inside == 0 || b.over || b.slow {
		return
	}
	if rest := b.credit - time.Since(b.since); rest > 0 { // something has come meanwhile, or another call waits
		b.timer.Reset(rest)
		return
	}
	b.slow = true
	b.breakReads(time.Unix(1, 0))
	b.onSlow(b.original)
}

// discard reads what net/http is about to read of a body that the handler leaves, which
// has no bound of its own: net/http then finds it read, or broken; false.
func (b *body) discard() (ok bool) {
	if !b.http1 {
		return true // HTTP/2 resets the stream
	}
	b.mu.Lock()
	large := b.original.ContentLength-b.got >= maxDiscard // net/http reads none of it
	leave := b.over || large || b.expects && !b.read
	b.mu.Unlock()
	if leave {
		return true
	}
	if _, err := io.CopyN(io.Discard, b, maxDiscard+1); err != io.EOF {
		b.expire(time.Unix(1, 0))
		return false
	}
	return true
}

// expire sets when net/http has read enough.
func (b *body) expire(at time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.over && !b.slow {
		b.breakReads(at)
	}
}

// end has nothing more be asked of net/http.
func (b *body) end() {
	b.mu.Lock()
	b.over = true
	b.mu.Unlock()
}

// leave is called when the handler has returned, or panics. net/http may still read
// what discard left alone, before it closes the connection.
func (b *body) leave() {
	if b.http1 {
		b.expire(time.Now().Add(b.rate.grace))
	}
	b.end()
	b.original.MultipartForm = b.request.MultipartForm // net/http removes its files
}

// watched1 is an HTTP/1 answer to a request whose body is watched. Before an answer's
// headers go out net/http reads what the handler has left of the body, unless both go
// on at once or the connection is closed after the answer.
type watched1 struct {
	polite1
	body   *body
	duplex bool // they do
	wrote  int  // bytes
}

func (p *watched1) adds(n int) {
	if p.wrote += n; p.wrote > headersLeave {
		p.sends()
	}
}

func (p *watched1) sends() {
	p.headers(http.StatusOK)
	if !p.duplex && !p.closes() {
		p.body.discard()
	}
}

// closes tells whether the connection ends with this answer.
func (p *watched1) closes() bool {
	return p.body.original.Close || p.Header().Get("Connection") == "close"
}

func (p *watched1) Write(b []byte) (int, error) {
	p.adds(len(b))
	return p.polite1.Write(b)
}

func (p *watched1) WriteString(s string) (int, error) {
	p.adds(len(s))
	return p.polite1.WriteString(s)
}

func (p *watched1) ReadFrom(r io.Reader) (int64, error) {
	return io.Copy(struct{ io.Writer }{p}, r)
}

func (p *watched1) Flush() {
	p.sends()
	p.polite1.Flush()
}

func (p *watched1) FlushError() error {
	p.sends()
	return p.polite1.FlushError()
}

// EnableFullDuplex is what http.ResponseController looks for.
func (p *watched1) EnableFullDuplex() error {
	p.duplex = true
	return http.NewResponseController(p.writer1).EnableFullDuplex()
}

func (p *watched1) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	c, rw, err := p.writer1.Hijack()
	if err == nil {
		p.body.end() // it is the handler's
	}
	return c, rw, err
}

// finish is called when the handler has returned.
func (p *watched1) finish() {
	p.headers(http.StatusOK) // a handler that wrote nothing
	if !p.duplex && p.closes() {
		return
	}
	if p.body.discard() || !p.duplex {
		return
	}
	// net/http has said that it keeps the connection, and would take what is left of
	// the body for the next request.
	p.writer1.Flush()
	if c, _, err := p.writer1.Hijack(); err == nil {
		c.Close()
	}
}
