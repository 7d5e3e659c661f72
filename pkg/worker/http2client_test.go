package worker

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// h2client is an HTTP/2 client that does what it is told, frame by frame.
type h2client struct {
	*http2.Framer
	t     *testing.T
	c     net.Conn
	block bytes.Buffer
	enc   *hpack.Encoder

	mute   bool // does not answer PINGs
	pings  [][8]byte
	aways  []uint32        // last streams of the GOAWAYs that came
	bodies map[uint32]int  // bytes of answers
	ended  map[uint32]bool // answers that are complete
}

func h2On(t *testing.T, c net.Conn) *h2client {
	t.Helper()
	h := &h2client{Framer: http2.NewFramer(c, c), t: t, c: c, bodies: map[uint32]int{}, ended: map[uint32]bool{}}
	h.enc = hpack.NewEncoder(&h.block)
	h.AllowIllegalWrites = true
	h.must(h.greet())
	return h
}

func (h *h2client) greet() error {
	if _, err := io.WriteString(h.c, http2.ClientPreface); err != nil {
		return err
	}
	return h.WriteSettings()
}

// h2TLS dials, and shakes hands for HTTP/2.
func h2TLS(t *testing.T, addr string) *h2client {
	t.Helper()
	c := tls.Client(dial(t, addr).c, &tls.Config{InsecureSkipVerify: true, ServerName: "x", NextProtos: []string{"h2"}})
	if err := c.Handshake(); err != nil {
		t.Fatal(err)
	}
	return h2On(t, c)
}

func (h *h2client) must(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatalf("%v\n%s", err, stacks())
	}
}

// request opens a stream; without more its body is empty.
func (h *h2client) request(stream uint32, path string, more bool) {
	h.t.Helper()
	h.must(h.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: h.fields(path), EndStream: !more, EndHeaders: true}))
}

func (h *h2client) fields(path string) []byte {
	method := "GET"
	if strings.HasPrefix(path, "/up") {
		method = "POST"
	}
	h.block.Reset()
	for _, f := range [][2]string{{":method", method}, {":scheme", "https"}, {":authority", "x"}, {":path", path}} {
		h.enc.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]})
	}
	return h.block.Bytes()
}

// next follows one frame. An answer that breaks a header block or is no frame
// fails in the framer.
func (h *h2client) next() error {
	f, err := h.ReadFrame()
	if err != nil {
		return err
	}
	switch f := f.(type) {
	case *http2.SettingsFrame:
		if !f.IsAck() {
			return h.WriteSettingsAck()
		}
	case *http2.PingFrame:
		if !f.IsAck() {
			h.pings = append(h.pings, f.Data)
			if !h.mute {
				return h.WritePing(true, f.Data)
			}
		}
	case *http2.GoAwayFrame:
		if f.ErrCode != http2.ErrCodeNo {
			return fmt.Errorf("GOAWAY says %v", f.ErrCode)
		}
		h.aways = append(h.aways, f.LastStreamID)
	case *http2.RSTStreamFrame:
		return fmt.Errorf("stream %d was reset: %v", f.StreamID, f.ErrCode)
	case *http2.DataFrame:
		h.bodies[f.StreamID] += len(f.Data())
		h.ended[f.StreamID] = h.ended[f.StreamID] || f.StreamEnded()
	case *http2.HeadersFrame:
		h.ended[f.StreamID] = h.ended[f.StreamID] || f.StreamEnded()
	}
	return nil
}

// until follows frames until it is so.
func (h *h2client) until(what string, is func() bool) {
	h.t.Helper()
	for !is() {
		if err := h.next(); err != nil {
			h.t.Fatalf("%v before %s; GOAWAYs %v\n%s", err, what, h.aways, stacks())
		}
	}
}

func (h *h2client) answered(stream uint32) {
	h.t.Helper()
	h.until(fmt.Sprintf("the answer on stream %d", stream), func() bool { return h.ended[stream] })
}

func (h *h2client) goAways(n int) {
	h.t.Helper()
	h.until(fmt.Sprintf("%d GOAWAYs", n), func() bool { return len(h.aways) >= n })
}

// wantEnd wants the server to close, then closes too.
func (h *h2client) wantEnd() {
	h.t.Helper()
	defer h.c.Close()
	for {
		if err := h.next(); err != nil {
			if !errors.Is(err, io.EOF) {
				h.t.Errorf("the connection ended with %v", err)
			}
			return
		}
	}
}

// wantAways wants exactly these GOAWAYs to have come.
func (h *h2client) wantAways(last ...uint32) {
	h.t.Helper()
	if fmt.Sprint(h.aways) != fmt.Sprint(last) {
		h.t.Errorf("GOAWAYs named %v, want %v", h.aways, last)
	}
}
