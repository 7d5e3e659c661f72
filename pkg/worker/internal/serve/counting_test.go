package serve

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/masterd/masterd/pkg/worker/internal/migrate"
	"github.com/masterd/masterd/pkg/worker/internal/workertest"
)

// fakeWriter is a writer for HTTP/1 that keeps nothing.
type fakeWriter struct{ header http.Header }

func (w *fakeWriter) Header() http.Header                          { return w.header }
func (w *fakeWriter) WriteHeader(int)                              {}
func (w *fakeWriter) Write(b []byte) (int, error)                  { return len(b), nil }
func (w *fakeWriter) WriteString(s string) (int, error)            { return len(s), nil }
func (w *fakeWriter) ReadFrom(r io.Reader) (int64, error)          { return io.Copy(io.Discard, r) }
func (w *fakeWriter) Flush()                                       {}
func (w *fakeWriter) FlushError() error                            { return nil }
func (w *fakeWriter) CloseNotify() <-chan bool                     { return nil }
func (w *fakeWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) { return nil, nil, http.ErrHijacked }

// counting is the handler around one that does next to nothing.
func counting(t testing.TB) http.Handler {
	hello := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Pattern = "GET /users/{id}"
		io.WriteString(w, "hello")
	})
	traffic := NewTraffic()
	sender := migrate.NewSender(traffic.Conns, traffic.Leaving.IsSet, workertest.DiscardLog())
	d, err := (&Config{Name: "http", Handler: hello}).Open(traffic, sender, workertest.DiscardLog())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		d.Close()
		d.Wait()
		sender.Close()
	})
	return d.public.(*http.Server).Handler
}

// The writer that knows when to say close is the one allocation there has always been.
func TestCountingAllocatesNothing(t *testing.T) {
	h, w, r := counting(t), &fakeWriter{http.Header{}}, httptest.NewRequest("GET", "/users/17", nil)
	if n := testing.AllocsPerRun(1000, func() { h.ServeHTTP(w, r) }); n > 1 {
		t.Errorf("%v allocations", n)
	}
}

// All that is around a handler: what is counted, and what is known of requests that run.
//
//	go test -run - -bench Counting -benchmem ./pkg/worker/internal/serve
func BenchmarkCounting(b *testing.B) {
	h, w, r := counting(b), &fakeWriter{http.Header{}}, httptest.NewRequest("GET", "/users/17", nil)
	b.ReportAllocs()
	for b.Loop() {
		h.ServeHTTP(w, r)
	}
}
