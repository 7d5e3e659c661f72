//go:build linux

package serve

import (
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/masterd/masterd/pkg/worker/internal/workertest"
)

// A connection that has moved waits outside net/http, under the same timeout.
func TestTheLobbyLeavesARequestInTheKernelAlone(t *testing.T) {
	d := &Listener{Config: &Config{Name: "http"}, public: &http.Server{IdleTimeout: time.Nanosecond}, injected: newConnQueue(), traffic: NewTraffic(), sender: nil}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	for _, sends := range []bool{true, false} {
		k := workertest.Dial(t, ln.Addr().String())
		nc, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		if sends {
			if err := k.Write("GET", "/", ""); err != nil {
				t.Fatal(err)
			}
			workertest.Arrived(t, k.Conn)
		}
		d.holdIdle(d.trackMigrated(nc))
		if !sends {
			k.WantEnd(t)
			continue
		}
		put := make(chan net.Conn, 1)
		go func() {
			if c, err := d.injected.(*connQueue).Accept(); err == nil {
				put <- c
			}
		}()
		select {
		case c := <-put:
			b := make([]byte, 3)
			if _, err := io.ReadFull(c, b); err != nil || !strings.HasPrefix("GET", string(b)) {
				t.Errorf("the server reads %q, %v", b, err)
			}
		case <-time.After(workertest.Patience):
			t.Error("the connection was closed under its request")
			d.injected.Close()
		}
	}
	d.serving.Wait()
}
