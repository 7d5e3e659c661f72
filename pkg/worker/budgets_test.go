//go:build linux

package worker

import (
	"net/http"
	"testing"

	"github.com/masterd/masterd/pkg/worker/internal/workertest"
)

// What bounds HTTP/2's control frames is net/http's own; the filters beneath it must not
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
				if c.WriteHeaders(i, c.fields("/held"), true) != nil || c.WriteRSTStream(i, workertest.Cancel) != nil {
					return
				}
			}
		}()
		for {
			f, err := c.ReadFrame()
			if err != nil {
				t.Fatalf("%v before the GOAWAY", err)
			}
			if f.Kind == workertest.FrameGoAway {
				if _, code := f.GoAway(); code != workertest.EnhanceYourCalm {
					t.Fatalf("GOAWAY says %d", code)
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
