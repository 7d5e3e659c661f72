package worker

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/masterd/masterd/pkg/worker/internal/workertest"
)

// h2client is an HTTP/2 client that does what it is told, frame by frame.
type h2client struct {
	*workertest.Framer
	t *testing.T
	c net.Conn

	mute   bool // does not answer PINGs
	pings  [][8]byte
	aways  []uint32        // last streams of the GOAWAYs that came
	bodies map[uint32]int  // bytes of answers
	ended  map[uint32]bool // answers that are complete
}

func h2On(t *testing.T, c net.Conn) *h2client {
	t.Helper()
	h := &h2client{Framer: workertest.NewFramer(c, c), t: t, c: c, bodies: map[uint32]int{}, ended: map[uint32]bool{}}
	h.must(h.greet())
	return h
}

func (h *h2client) greet() error {
	if _, err := io.WriteString(h.c, workertest.HTTP2Preface); err != nil {
		return err
	}
	return h.WriteSettings()
}

// h2TLS dials, and shakes hands for HTTP/2.
func h2TLS(t *testing.T, addr string) *h2client {
	t.Helper()
	c := tls.Client(workertest.Dial(t, addr).Conn, &tls.Config{InsecureSkipVerify: true, ServerName: "x", NextProtos: []string{"h2"}})
	if err := c.Handshake(); err != nil {
		t.Fatal(err)
	}
	return h2On(t, c)
}

func (h *h2client) must(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatalf("%v\n%s", err, workertest.Stacks())
	}
}

// request opens a stream; without more its body is empty.
func (h *h2client) request(stream uint32, path string, more bool) {
	h.t.Helper()
	h.must(h.WriteHeaders(stream, h.fields(path), !more))
}

func (h *h2client) fields(path string) []byte {
	method := "GET"
	if strings.HasPrefix(path, "/up") {
		method = "POST"
	}
	return workertest.HeaderBlock(":method", method, ":scheme", "https", ":authority", "x", ":path", path)
}

// next follows one frame. An answer that breaks a header block or is no frame
// fails in the framer.
func (h *h2client) next() error {
	f, err := h.ReadFrame()
	if err != nil {
		return err
	}
	switch f.Kind {
	case workertest.FrameSettings:
		if !f.Has(workertest.FlagAck) {
			return h.WriteSettingsAck()
		}
	case workertest.FramePing:
		if !f.Has(workertest.FlagAck) {
			h.pings = append(h.pings, [8]byte(f.Payload))
			if !h.mute {
				return h.WritePing(true, [8]byte(f.Payload))
			}
		}
	case workertest.FrameGoAway:
		last, code := f.GoAway()
		if code != workertest.NoError {
			return fmt.Errorf("GOAWAY says %d", code)
		}
		h.aways = append(h.aways, last)
	case workertest.FrameRSTStream:
		return fmt.Errorf("stream %d was reset: %d", f.Stream, f.ErrorCode())
	case workertest.FrameData:
		h.bodies[f.Stream] += len(f.Data())
		h.ended[f.Stream] = h.ended[f.Stream] || f.Has(workertest.FlagEndStream)
	case workertest.FrameHeaders:
		h.ended[f.Stream] = h.ended[f.Stream] || f.Has(workertest.FlagEndStream)
	}
	return nil
}

// until follows frames until it is so.
func (h *h2client) until(what string, is func() bool) {
	h.t.Helper()
	for !is() {
		if err := h.next(); err != nil {
			h.t.Fatalf("%v before %s; GOAWAYs %v\n%s", err, what, h.aways, workertest.Stacks())
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
