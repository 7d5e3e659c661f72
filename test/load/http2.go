package load

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// HTTP2 is what a strict HTTP/2 client shall send: uploads that it cannot send
// again, on connections that it keeps. It obeys GOAWAY: what is open is waited
// for, what is new goes to a new connection. It never retries.
type HTTP2 struct {
	Addr    string      // "host:port"
	TLS     *tls.Config // nil: prior knowledge
	Clients int         // each with a connection at a time
	Streams int         // uploads that a client has open together
	Path    string
	Body    int           // bytes of each
	Pause   time.Duration // between a client's rounds
	Timeout time.Duration // for a round; default 10 s
	Check   func(body []byte) error
}

// HTTP2Result is how it went.
type HTTP2Result struct {
	Uploads, Failed uint64
	Connections     uint64
	Warned, Told    uint64   // GOAWAYs that refuse nothing, and that name the last stream
	Examples        []string // of failures
}

// Run uploads until ctx is done.
func (p HTTP2) Run(ctx context.Context) HTTP2Result {
	if p.Timeout == 0 {
		p.Timeout = defaultTimeout
	}
	var mu sync.Mutex
	var sum HTTP2Result
	var clients sync.WaitGroup
	for range p.Clients {
		clients.Go(func() {
			c := &h2client{plan: p}
			for ctx.Err() == nil {
				c.round()
				select {
				case <-ctx.Done():
				case <-time.After(p.Pause):
				}
			}
			if c.conn != nil {
				c.drop()
			}
			mu.Lock()
			defer mu.Unlock()
			r := c.result
			sum.Uploads += r.Uploads
			sum.Failed += r.Failed
			sum.Connections += r.Connections
			sum.Warned += r.Warned
			sum.Told += r.Told
			sum.Examples = append(sum.Examples, r.Examples...)
		})
	}
	clients.Wait()
	return sum
}

// h2client is one client; a goroutine of its own uses it.
type h2client struct {
	plan   HTTP2
	result HTTP2Result

	conn    net.Conn // nil: none
	fr      *http2.Framer
	block   bytes.Buffer
	enc     *hpack.Encoder
	next    uint32 // stream
	goes    bool   // the server has said GOAWAY
	last    uint32 // what that allows
	open    map[uint32]*upload
	pending int64 // bytes that the connection's window has room for
}

type upload struct {
	status string
	body   []byte
	done   bool
}

// round opens the plan's streams, sends their bodies in turns, and waits for
// all answers.
func (c *h2client) round() {
	if c.conn == nil {
		if err := c.dial(); err != nil {
			c.fail(1, fmt.Errorf("connecting: %w", err))
			time.Sleep(failurePause)
			return
		}
	}
	c.conn.SetDeadline(time.Now().Add(c.plan.Timeout))
	c.open = map[uint32]*upload{}
	if err := c.upload(); err != nil {
		lost := 0
		for _, u := range c.open {
			if !u.done {
				lost++
			}
		}
		c.fail(max(1, lost), fmt.Errorf("%w (GOAWAY %v up to %d, next stream %d)", err, c.goes, c.last, c.next))
		c.drop()
		return
	}
	for id, u := range c.open {
		if err := c.plan.Check(u.body); u.status != "200" || err != nil {
			c.fail(1, fmt.Errorf("stream %d: status %s, %v", id, u.status, err))
			continue
		}
		c.result.Uploads++
	}
	if c.goes {
		c.drop()
	}
}

func (c *h2client) upload() error {
	var ids []uint32
	for range c.plan.Streams {
		c.block.Reset()
		for _, f := range [][2]string{{":method", "POST"}, {":scheme", "https"}, {":authority", c.plan.Addr}, {":path", c.plan.Path}} {
			c.enc.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]})
		}
		if err := c.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: c.next, BlockFragment: c.block.Bytes(), EndHeaders: true}); err != nil {
			return fmt.Errorf("opening a stream: %w", err)
		}
		c.open[c.next] = &upload{}
		ids = append(ids, c.next)
		c.next += 2
	}
	rest := Body(c.plan.Body)
	for len(rest) > 0 {
		piece := rest[:min(len(rest), 4000)]
		rest = rest[len(piece):]
		for _, id := range ids {
			for c.pending < int64(len(piece)) {
				if err := c.read(); err != nil {
					return err
				}
			}
			c.pending -= int64(len(piece))
			if err := c.fr.WriteData(id, len(rest) == 0, piece); err != nil {
				return fmt.Errorf("sending a body: %w", err)
			}
		}
	}
	for slices.ContainsFunc(ids, func(id uint32) bool { return !c.open[id].done }) {
		if err := c.read(); err != nil {
			return err
		}
	}
	return nil
}

// read follows one frame.
func (c *h2client) read() error {
	f, err := c.fr.ReadFrame()
	if err != nil {
		return fmt.Errorf("reading: %w", err)
	}
	u := c.open[f.Header().StreamID]
	if u == nil {
		u = new(upload) // it belongs to none
	}
	switch f := f.(type) {
	case *http2.SettingsFrame:
		if !f.IsAck() {
			return c.fr.WriteSettingsAck()
		}
	case *http2.PingFrame:
		if !f.IsAck() {
			return c.fr.WritePing(true, f.Data)
		}
	case *http2.WindowUpdateFrame:
		if f.StreamID == 0 {
			c.pending += int64(f.Increment)
		}
	case *http2.GoAwayFrame:
		c.goes, c.last = true, f.LastStreamID
		if f.ErrCode != http2.ErrCodeNo {
			return fmt.Errorf("GOAWAY: %v %q", f.ErrCode, f.DebugData())
		}
		if f.LastStreamID == 1<<31-1 {
			c.result.Warned++
			break
		}
		c.result.Told++
		for id := range c.open {
			if id > f.LastStreamID {
				return errors.New("a stream was refused")
			}
		}
	case *http2.RSTStreamFrame:
		return fmt.Errorf("stream %d was reset: %v", f.StreamID, f.ErrCode)
	case *http2.MetaHeadersFrame:
		if s := f.PseudoValue("status"); s != "" {
			u.status = s
		}
		u.done = f.StreamEnded()
	case *http2.DataFrame:
		u.body = append(u.body, f.Data()...)
		u.done = f.StreamEnded()
		if n := len(f.Data()); n > 0 {
			return c.fr.WriteWindowUpdate(0, uint32(n))
		}
	}
	return nil
}

func (c *h2client) dial() error {
	nc, err := net.DialTimeout("tcp", c.plan.Addr, c.plan.Timeout)
	if err != nil {
		return err
	}
	nc.SetDeadline(time.Now().Add(c.plan.Timeout))
	if c.plan.TLS != nil {
		t := tls.Client(nc, c.plan.TLS)
		if err := t.Handshake(); err != nil {
			nc.Close()
			return err
		}
		nc = t
	}
	c.conn, c.next, c.goes, c.last, c.pending = nc, 1, false, 0, 65535
	c.fr = http2.NewFramer(nc, nc)
	c.fr.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	c.block.Reset()
	c.enc = hpack.NewEncoder(&c.block)
	c.result.Connections++
	if _, err := io.WriteString(nc, http2.ClientPreface); err != nil {
		c.drop()
		return err
	}
	if err := c.fr.WriteSettings(); err != nil {
		c.drop()
		return err
	}
	return nil
}

func (c *h2client) drop() {
	c.conn.Close()
	c.conn = nil
}

func (c *h2client) fail(n int, err error) {
	c.result.Failed += uint64(n)
	if len(c.result.Examples) < maxExamples {
		c.result.Examples = append(c.result.Examples, err.Error())
	}
}
