package load

import (
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
)

// Each request comes on a connection of its own; errors are counted, and so is what has no answer.
func TestStrangers(t *testing.T) {
	var asked, cut, failed atomic.Int64
	var mu sync.Mutex
	addrs := map[string]bool{}
	enough := make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		addrs[r.RemoteAddr] = true
		mu.Unlock()
		n := asked.Add(1)
		if n == 40 {
			close(enough)
		}
		switch n % 4 {
		case 1:
			failed.Add(1)
			w.WriteHeader(http.StatusBadGateway)
		case 2:
			cut.Add(1)
			panic(http.ErrAbortHandler)
		case 3:
			w.WriteHeader(http.StatusNotFound)
		}
	}))
	defer s.Close()
	c := NewStrangers(s.Listener.Addr().String())
	<-enough
	errors, lost := c.Stop()
	if errors != failed.Load() || lost < cut.Load() {
		t.Errorf("%d errors of %d, %d lost of %d", errors, failed.Load(), lost, cut.Load())
	}
	if len(addrs) != int(asked.Load()) {
		t.Errorf("%d requests on %d connections", asked.Load(), len(addrs))
	}
}
