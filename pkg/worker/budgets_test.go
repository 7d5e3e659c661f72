//go:build linux

package worker

import (
	"net/http"
	"testing"

	"golang.org/x/net/http2"
)

// What bounds HTTP/2's control frames is net/http's own; the gates beneath it must not
// stand in its way. docs/operating.md states the numbers.

// Streams that are opened and reset at once, while handlers run on: 250 run, 1000 wait,
// and one more ends the connection.
func TestHTTP2StreamsThatAreResetAtOnce(t *testing.T) {
	hold := make(chan struct{})
	h := http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/held" {
			<-hold
		}
	})
	overBoth(t, h, func(t *testing.T, w *running, k *masterLink, connect func() *h2client) {
		c, other := connect(), connect()
		go func() {
			for i := uint32(1); i < 2*5000; i += 2 {
				c.block.Reset()
				if c.WriteHeaders(http2.HeadersFrameParam{StreamID: i, BlockFragment: c.fields("/held"), EndStream: true, EndHeaders: true}) != nil ||
					c.WriteRSTStream(i, http2.ErrCodeCancel) != nil {
					return
				}
			}
		}()
		for {
			f, err := c.ReadFrame()
			if err != nil {
				t.Fatalf("%v before the GOAWAY", err)
			}
			if g, ok := f.(*http2.GoAwayFrame); ok {
				if g.ErrCode != http2.ErrCodeEnhanceYourCalm {
					t.Fatalf("GOAWAY says %v", g.ErrCode)
				}
				break
			}
		}
		c.c.Close()
		if n := w.Stats().InFlight; n > 250 {
			t.Errorf("%d handlers run", n)
		}
		other.request(1, "/", false)
		other.answered(1)
		other.c.Close()
		for range w.Stats().InFlight {
			hold <- struct{}{}
		}
		finish(t, w, k)
	})
}
