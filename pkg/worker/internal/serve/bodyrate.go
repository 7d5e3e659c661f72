package serve

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"sync"
	"time"
)

const (
	MaxDiscard   = 256 << 10 // bytes of a body that nobody has read, and that net/http reads to keep the connection
	HeadersLeave = 2048      // bytes of an answer that net/http holds back before its headers go out
	MaxBodyGrace = time.Hour // a longer grace is cut to that
)

// BodyRate is what clients owe; zero: nothing.
type BodyRate struct {
	PerSecond int           // bytes
	Grace     time.Duration // maxBodyCredit at most
	Err       error         // what reading the body of a slow client returns
}

// creditFor is the time for n bytes.
func (r BodyRate) creditFor(n int) time.Duration {
	return time.Duration(float64(n) / float64(r.PerSecond) * float64(time.Second))
}

// watchedBody is a request's whose client is watched. It may be read and closed by several
// goroutines, as net/http's own.
type watchedBody struct {
	io.ReadCloser // net/http's
	rate          BodyRate
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
	over   bool          // nothing more comes, or no deadline must be set any more
	slow   bool
}

// watch has a request's body watched; b is nil where it has none. The request is
// copied: net/http looks at its own body's type before it keeps a connection.
func (r BodyRate) watch(
	w http.ResponseWriter, req *http.Request, onSlow func(*http.Request),
) (b *watchedBody, copied *http.Request) {
	if req.Body == nil || req.Body == http.NoBody {
		return nil, req
	}
	b = &watchedBody{
		ReadCloser: req.Body, rate: r, credit: r.Grace, onSlow: onSlow,
		breakReads: http.NewResponseController(w).SetReadDeadline,
		http1:      req.ProtoMajor == 1, expects: req.ProtoAtLeast(1, 1) && req.Header.Get("Expect") != "",
	}
	b.original, b.request = req, req.WithContext(req.Context())
	b.request.Body = b
	return b, b.request
}

func (b *watchedBody) Read(p []byte) (int, error) {
	if !b.begin() {
		return 0, b.rate.Err
	}
	n, err := b.ReadCloser.Read(p)
	return n, b.ended(n, err)
}

func (b *watchedBody) Close() error {
	b.drain() // what net/http would read now
	if b.begin() {
		defer b.ended(0, io.EOF)
	}
	return b.ReadCloser.Close()
}

// begin is called before something that may wait for the client; false: it was too slow.
func (b *watchedBody) begin() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.slow {
		return false
	}
	b.read = true
	if b.inside++; b.inside == 1 && !b.over {
		b.since = time.Now()
		if b.timer == nil {
			b.timer = time.AfterFunc(b.credit, b.onTimeout)
		} else {
			b.timer.Reset(b.credit)
		}
	}
	return true
}

// ended is called after it, and returns the error for whoever reads.
func (b *watchedBody) ended(n int, err error) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.got += int64(n)
	b.credit += b.rate.creditFor(n)
	if b.inside--; b.inside == 0 && b.timer != nil {
		b.timer.Stop()
		b.credit = min(b.rate.Grace, b.credit-time.Since(b.since))
	}
	if b.slow && err != nil {
		return b.rate.Err
	}
	if err == io.EOF {
		b.over = true
		if b.request.Trailer == nil && b.original.Trailer != nil {
			b.request.Trailer = b.original.Trailer // one that was not announced
		}
	}
	return err
}

// onTimeout is called when the credit may be used up.
func (b *watchedBody) onTimeout() {
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

// drain reads what net/http is about to read of a body that the handler leaves, which
// has no bound of its own: net/http then finds it read, or broken; false.
func (b *watchedBody) drain() (ok bool) {
	if !b.http1 {
		return true // HTTP/2 resets the stream
	}
	b.mu.Lock()
	large := b.original.ContentLength-b.got >= MaxDiscard // net/http reads none of it
	leave := b.over || large || b.expects && !b.read
	b.mu.Unlock()
	if leave {
		return true
	}
	if _, err := io.CopyN(io.Discard, b, MaxDiscard+1); err != io.EOF {
		b.setDeadline(time.Unix(1, 0))
		return false
	}
	return true
}

// setDeadline sets when net/http has read enough.
func (b *watchedBody) setDeadline(at time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.over && !b.slow {
		b.breakReads(at)
	}
}

// end has nothing more be asked of net/http.
func (b *watchedBody) end() {
	b.mu.Lock()
	b.over = true
	b.mu.Unlock()
}

// handlerDone is called when the handler has returned, or panics. net/http may still read
// what drain left alone, before it closes the connection.
func (b *watchedBody) handlerDone() {
	if b.http1 {
		b.setDeadline(time.Now().Add(b.rate.Grace))
	}
	b.end()
	b.original.MultipartForm = b.request.MultipartForm // net/http removes its files
}

// watchedWriter1 is an HTTP/1 answer to a request whose body is watched. Before an answer's
// headers go out net/http reads what the handler has left of the body, unless both go
// on at once or the connection is closed after the answer.
type watchedWriter1 struct {
	closingWriter1
	body   *watchedBody
	duplex bool // they do
	wrote  int  // bytes
}

func (p *watchedWriter1) adds(n int) {
	if p.wrote += n; p.wrote > HeadersLeave {
		p.sends()
	}
}

func (p *watchedWriter1) sends() {
	p.beforeHeaders(http.StatusOK)
	if !p.duplex && !p.closes() {
		p.body.drain()
	}
}

// closes tells whether the connection ends with this answer.
func (p *watchedWriter1) closes() bool {
	return p.body.original.Close || p.Header().Get("Connection") == "close"
}

func (p *watchedWriter1) Write(b []byte) (int, error) {
	p.adds(len(b))
	return p.closingWriter1.Write(b)
}

func (p *watchedWriter1) WriteString(s string) (int, error) {
	p.adds(len(s))
	return p.closingWriter1.WriteString(s)
}

func (p *watchedWriter1) ReadFrom(r io.Reader) (int64, error) {
	return io.Copy(struct{ io.Writer }{p}, r)
}

func (p *watchedWriter1) Flush() {
	p.sends()
	p.closingWriter1.Flush()
}

func (p *watchedWriter1) FlushError() error {
	p.sends()
	return p.closingWriter1.FlushError()
}

// EnableFullDuplex is what http.ResponseController looks for.
func (p *watchedWriter1) EnableFullDuplex() error {
	p.duplex = true
	return http.NewResponseController(p.http1).EnableFullDuplex()
}

func (p *watchedWriter1) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	c, rw, err := p.closingWriter1.Hijack()
	if err == nil {
		p.body.end() // it is the handler's
	}
	return c, rw, err
}

// finish is called when the handler has returned.
func (p *watchedWriter1) finish() {
	p.beforeHeaders(http.StatusOK) // a handler that wrote nothing
	if !p.duplex && p.closes() {
		return
	}
	if p.body.drain() || !p.duplex {
		return
	}
	// net/http has said that it keeps the connection, and would take what is left of
	// the body for the next request.
	p.http1.Flush()
	if c, _, err := p.http1.Hijack(); err == nil {
		c.Close()
	}
}
