package load

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"syscall"
	"time"
)

const readBuffer = 16 << 10 // bytes; also the longest line of an answer's head

// buffers go from one of a worker's connections to the next.
type buffers struct {
	in         *bufio.Reader
	head, body []byte
}

// conn is one connection to the server.
type conn struct {
	*buffers
	net     net.Conn
	raw     syscall.RawConn
	served  int    // requests sent on it
	version string // of its last answer
}

func dial(d *net.Dialer, p *Plan, deadline time.Time, b *buffers) (*conn, Kind, error) {
	network := "tcp"
	if p.unix() {
		network = "unix"
	}
	dialer := *d
	dialer.Deadline = deadline
	nc, err := dialer.Dial(network, p.Addr)
	if err != nil {
		switch {
		case errors.Is(err, syscall.ECONNREFUSED):
			return nil, DialRefused, err
		case errors.Is(err, os.ErrDeadlineExceeded), isTimeout(err):
			return nil, DialTimeout, err
		}
		return nil, DialFailed, err
	}
	if p.TLS != nil {
		t := tls.Client(nc, p.TLS)
		_ = t.SetDeadline(deadline)
		if err := t.Handshake(); err != nil {
			nc.Close()
			return nil, DialFailed, err
		}
		nc = t
	}
	b.in.Reset(nc)
	c := &conn{buffers: b, net: nc}
	if sc, ok := nc.(syscall.Conn); ok {
		c.raw, _ = sc.SyscallConn()
	}
	return c, "", nil
}

func isTimeout(err error) bool {
	var n net.Error
	return errors.As(err, &n) && n.Timeout()
}

func (c *conn) close() { _ = c.net.Close() }

// idleEnd tells whether the server has already ended this idle connection. It
// only looks: the next request is sent nevertheless, and fails.
func (c *conn) idleEnd() bool {
	if c.raw == nil {
		return false
	}
	gone := false
	err := c.raw.Read(func(fd uintptr) bool {
		var b [1]byte
		n, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		gone = (n == 0 && err == nil) || errors.Is(err, syscall.ECONNRESET)
		return true // never wait
	})
	return gone || err != nil
}

// end is how a connection that the server was asked to close ended.
type end int

const (
	endClosed end = iota
	endReset
	endOpen
)

// waitEnd reads until the server closes: whoever closes first has to remember
// the connection for a minute, and a client would run out of ports.
func (c *conn) waitEnd(deadline time.Time) end {
	_ = c.net.SetReadDeadline(deadline)
	switch _, err := c.in.ReadByte(); {
	case errors.Is(err, io.EOF):
		return endClosed
	case err == nil, isTimeout(err):
		return endOpen
	}
	return endReset
}

// answer is one response; header and body are valid until the next.
type answer struct {
	status int
	header Header
	body   []byte
	close  bool
}

// Header is the head of an answer, as it came.
type Header []byte

// Get returns the value of the first header line with this name, in any case;
// empty: there is none.
func (h Header) Get(name string) string {
	value, _ := h.find(name)
	return string(value)
}

func (h Header) find(name string) ([]byte, bool) {
	for rest := []byte(h); len(rest) > 0; {
		var line []byte
		line, rest, _ = bytes.Cut(rest, []byte("\n"))
		if len(line) > len(name) && line[len(name)] == ':' && equalFold(line[:len(name)], name) {
			return bytes.TrimSpace(line[len(name)+1:]), true
		}
	}
	return nil, false
}

// equalFold compares ASCII without allocating.
func equalFold(b []byte, s string) bool {
	for i := range b {
		x, y := b[i], s[i]
		if x == y {
			continue
		}
		if x|0x20 != y|0x20 || x|0x20 < 'a' || x|0x20 > 'z' {
			return false
		}
	}
	return true
}

// hasToken looks for one of the words of a header's value.
func hasToken(value []byte, token string) bool {
	for len(value) > 0 {
		var word []byte
		word, value, _ = bytes.Cut(value, []byte(","))
		if word = bytes.TrimSpace(word); len(word) == len(token) && equalFold(word, token) {
			return true
		}
	}
	return false
}

// fault is an error with its kind.
type fault struct {
	kind Kind
	err  error
}

func (f *fault) Error() string { return f.err.Error() }

func faulty(kind Kind, format string, args ...any) error {
	return &fault{kind, fmt.Errorf(format, args...)}
}

// roundTrip sends a request and reads its answer, whole.
func (c *conn) roundTrip(request []byte, method string, deadline time.Time) (answer, Kind, error) {
	_ = c.net.SetDeadline(deadline)
	if c.in.Buffered() > 0 {
		return answer{}, Surplus, fmt.Errorf("%d bytes came that belong to no answer", c.in.Buffered())
	}
	_, werr := c.net.Write(request)
	// Read also when writing failed: the server may have answered (413, say)
	// before it closed.
	a, err := c.read(method)
	if err == nil && c.in.Buffered() > 0 {
		err = faulty(Surplus, "%d bytes came after the answer", c.in.Buffered())
	}
	if err == nil && werr != nil {
		a.close = true // answered, but the request never got through
		return a, "", nil
	}
	if err == nil {
		return a, "", nil
	}
	if werr != nil && !isTimeout(werr) {
		return a, Reset, fmt.Errorf("the request could not be sent: %w", werr)
	}
	var f *fault
	if !errors.As(err, &f) {
		f = &fault{Malformed, err}
	}
	return a, f.kind, f.err
}

// broken gives a read error the kind for where it happened.
func broken(err error, closed, reset Kind, where string) error {
	switch {
	case isTimeout(err):
		return faulty(Timeout, "no whole answer in time (%s): %w", where, err)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return faulty(closed, "the server closed the connection (%s): %w", where, err)
	case errors.Is(err, bufio.ErrBufferFull):
		return faulty(Malformed, "a line of more than %d bytes (%s)", readBuffer, where)
	}
	return faulty(reset, "the connection broke (%s): %w", where, err)
}

// read reads one answer, passing over interim ones (1xx).
func (c *conn) read(method string) (answer, error) {
	for {
		if _, err := c.in.Peek(1); err != nil {
			return answer{}, broken(err, Closed, Reset, "before the answer")
		}
		a, err := c.readHead()
		if err != nil {
			return a, err
		}
		if a.status >= 200 {
			err = c.readBody(&a, method)
			return a, err
		}
		if a.status == 101 {
			return a, faulty(Malformed, "switched protocols unasked")
		}
	}
}

// readHead reads status line and header lines.
func (c *conn) readHead() (answer, error) {
	var a answer
	line, err := c.in.ReadSlice('\n')
	if err != nil {
		return a, broken(err, ShortHead, ShortHead, "in the status line")
	}
	// HTTP/1.1 200 OK
	if len(line) < 13 || !bytes.HasPrefix(line, []byte("HTTP/1.1 ")) || (line[12] != ' ' && line[12] != '\r') {
		return a, faulty(Malformed, "the status line is %.60q", line)
	}
	if a.status, err = strconv.Atoi(string(line[9:12])); err != nil || a.status < 100 {
		return a, faulty(Malformed, "the status line is %.60q", line)
	}
	c.head = c.head[:0]
	for {
		line, err := c.in.ReadSlice('\n')
		if err != nil {
			return a, broken(err, ShortHead, ShortHead, "in the head")
		}
		if len(line) <= 2 && (line[0] == '\r' || line[0] == '\n') {
			break
		}
		if bytes.IndexByte(line, ':') <= 0 {
			return a, faulty(Malformed, "the header line is %.60q", line)
		}
		if len(c.head)+len(line) > maxHead {
			return a, faulty(Malformed, "a head of more than %d bytes", maxHead)
		}
		c.head = append(c.head, line...)
	}
	a.header = Header(c.head)
	connection, _ := a.header.find("Connection")
	a.close = hasToken(connection, "close")
	return a, nil
}

const maxHead = 256 << 10 // bytes of header lines

// readBody reads what the head promised.
func (c *conn) readBody(a *answer, method string) error {
	c.body = c.body[:0]
	if method == "HEAD" || a.status == 204 || a.status == 304 {
		return nil
	}
	var err error
	if value, ok := a.header.find("Content-Length"); ok {
		n, bad := strconv.ParseUint(string(value), 10, 63)
		if bad != nil || n > maxAnswer {
			return faulty(Malformed, "Content-Length is %.30q", value)
		}
		err = c.take(int(n))
	} else if value, ok := a.header.find("Transfer-Encoding"); ok && hasToken(value, "chunked") {
		err = c.takeChunks()
	} else if a.close {
		err = c.takeAll()
	} else {
		return faulty(Malformed, "neither a length nor an end of the connection was announced")
	}
	a.body = c.body
	return err
}

// take reads n bytes of body.
func (c *conn) take(n int) error {
	at := len(c.body)
	if at+n > maxAnswer {
		return faulty(Malformed, "a body of more than %d bytes", maxAnswer)
	}
	if cap(c.body) < at+n {
		c.body = append(make([]byte, 0, at+n), c.body...)
	}
	c.body = c.body[:at+n]
	got, err := io.ReadFull(c.in, c.body[at:])
	if err != nil {
		return broken(err, ShortBody, ShortBody, fmt.Sprintf("after %d of %d bytes of body", at+got, at+n))
	}
	return nil
}

// takeChunks reads a chunked body and its trailer.
func (c *conn) takeChunks() error {
	for {
		line, err := c.in.ReadSlice('\n')
		if err != nil {
			return broken(err, ShortBody, ShortBody, "where a chunk should begin")
		}
		digits, _, _ := bytes.Cut(bytes.TrimSpace(line), []byte(";"))
		n, bad := strconv.ParseUint(string(digits), 16, 31)
		if bad != nil {
			return faulty(Malformed, "the chunk size is %.30q", line)
		}
		if n == 0 {
			break
		}
		if err := c.take(int(n)); err != nil {
			return err
		}
		if line, err = c.in.ReadSlice('\n'); err != nil {
			return broken(err, ShortBody, ShortBody, "after a chunk")
		}
		if string(line) != "\r\n" {
			return faulty(Malformed, "a chunk is longer than its size")
		}
	}
	for {
		line, err := c.in.ReadSlice('\n')
		if err != nil {
			return broken(err, ShortBody, ShortBody, "in the trailer")
		}
		if len(bytes.TrimSpace(line)) == 0 {
			return nil
		}
	}
}

// takeAll reads until the server closes, as it said it would.
func (c *conn) takeAll() error {
	for {
		at := len(c.body)
		if at >= maxAnswer {
			return faulty(Malformed, "a body of more than %d bytes", maxAnswer)
		}
		c.body = append(c.body, make([]byte, readBuffer)...)
		n, err := c.in.Read(c.body[at:])
		c.body = c.body[:at+n]
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return broken(err, ShortBody, ShortBody, fmt.Sprintf("after %d bytes of body", at+n))
		}
	}
}
