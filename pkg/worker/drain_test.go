//go:build linux

package worker

import (
	"context"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/masterd/masterd/pkg/worker/internal/workertest"
)

// Two workers follow each other on one socket under load, as often as there is
// time for; neither a kept nor a new connection loses a request.
func TestDrainUnderLoad(t *testing.T) {
	const drains = 15
	s := newSlot(t, "http")
	set := func(w *Worker) { w.Handle("http", workertest.Pong) }
	w, k := managed(t, set)
	k.activate(s)
	l := newLoad(s.addr)
	defer l.end(t)
	for range drains {
		l.more(t, 50)
		next, nk := managed(t, set)
		nk.activate(s)
		k.drain(0)
		if stats := k.drained(); stats.Cut != 0 {
			t.Fatalf("%d connections were cut", stats.Cut)
		}
		if err := w.wait(); err != nil {
			t.Fatal(err)
		}
		w, k = next, nk
	}
	if !s.nonblocking(t) {
		t.Error("the slot is blocking now, for everybody who shares it")
	}
}

// What waits in the queue when a drain comes is served before we close.
func TestDrainTakesTheQueue(t *testing.T) {
	const waiting = 40
	s := newSlot(t, "http")
	var cs []*workertest.Client
	for range waiting {
		c := workertest.Dial(t, s.addr)
		if err := c.Write("GET", "/", ""); err != nil {
			t.Fatal(err)
		}
		cs = append(cs, c)
	}
	if n := s.queued(t); n != waiting {
		t.Fatalf("%d connections wait", n)
	}
	w, k := managed(t, func(w *Worker) { w.Handle("http", workertest.Pong) })
	k.activate(s)
	k.drain(0)
	for i, c := range cs {
		if got, _, err := c.Read(); err != nil || got != "pong" {
			t.Errorf("connection %d: %q, %v", i, got, err)
		}
		c.Conn.Close()
	}
	if stats := k.drained(); stats.Accepted != waiting {
		t.Errorf("%d accepted", stats.Accepted)
	}
	w.wait()
}

// Each kind of connection that a drain meets, and how it parts from it.
func TestDrainPartsPolitely(t *testing.T) {
	s := newSlot(t, "http")
	entered, goOn := make(chan string), make(chan struct{})
	mux := http.NewServeMux()
	mux.Handle("/", workertest.Pong)
	mux.HandleFunc("/slow", func(w http.ResponseWriter, r *http.Request) {
		entered <- "slow"
		<-goOn
		io.WriteString(w, "slow")
	})
	mux.HandleFunc("/silent", func(w http.ResponseWriter, r *http.Request) {
		entered <- "silent"
		<-goOn // and answers without writing
	})
	mux.HandleFunc("/begun", func(w http.ResponseWriter, r *http.Request) {
		w.(http.Flusher).Flush()
		entered <- "begun"
		<-goOn
		io.WriteString(w, "begun")
	})
	w, k := managed(t, func(w *Worker) { w.Handle("http", mux) })
	k.activate(s)

	idle := workertest.Dial(t, s.addr)
	idle.Want(t, "/", "pong", false)
	silent := map[string]*workertest.Client{}
	for _, path := range []string{"slow", "silent", "begun"} {
		silent[path] = workertest.Dial(t, s.addr)
		silent[path].Write("GET", "/"+path, "")
		workertest.Comes(t, entered)
	}
	half := workertest.Dial(t, s.addr) // half of a request's headers
	io.WriteString(half.Conn, "GET / HTTP/1.1\r\nHo")
	fresh := workertest.Dial(t, s.addr) // nothing yet
	workertest.Eventually(t, "all are accepted", func() bool { return w.Stats().Open == 6 })

	k.drain(0)
	w.leaves()
	close(goOn)
	for path, closing := range map[string]bool{"slow": true, "silent": true, "begun": false} {
		_, closes, err := silent[path].Read()
		if err != nil || closes != closing {
			t.Errorf("%s: closes %v, %v", path, closes, err)
		}
		if closing {
			silent[path].WantEnd(t)
		} else { // its headers were out already: the next answer says it
			silent[path].Want(t, "/", "pong", true)
		}
	}
	io.WriteString(half.Conn, "st: x\r\n\r\n")
	if got, closes, err := half.Read(); err != nil || !closes || got != "pong" {
		t.Errorf("half: %q %v %v", got, closes, err)
	}
	fresh.Want(t, "/", "pong", true)
	select {
	case <-w.done:
		t.Fatal("the drain ended with an idle connection open")
	default:
	}
	idle.Want(t, "/", "pong", true)
	if stats := k.drained(); stats.Cut != 0 {
		t.Errorf("%d cut", stats.Cut)
	}
	w.wait()
	if c, err := net.Dial("tcp", s.addr); err != nil {
		t.Errorf("the shared socket was shut down: %v", err)
	} else {
		c.Close()
	}
}

// At the deadline the rest is cut, and counted.
func TestDrainDeadline(t *testing.T) {
	s := newSlot(t, "http")
	entered := make(chan struct{})
	w, k := managed(t, func(w *Worker) {
		w.Handle("http", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/" {
				return
			}
			entered <- struct{}{}
			<-r.Context().Done() // the cut tells a handler that listens
		}))
		w.OnActive(func(ctx context.Context) { <-ctx.Done() })
	})
	k.activate(s)
	idle := workertest.Dial(t, s.addr)
	idle.Want(t, "/", "", false)
	busy := workertest.Dial(t, s.addr)
	busy.Write("GET", "/busy", "")
	workertest.Comes(t, entered)
	k.drain(20 * time.Millisecond)
	if stats := k.drained(); stats.Cut != 2 || stats.Open != 0 || stats.CutRequests != 1 || stats.CutLongestMS < 20 || stats.CutMedianMS < 20 {
		t.Errorf("drained with %+v", stats)
	}
	if err := w.wait(); err != nil {
		t.Fatal(err)
	}
	idle.WantEnd(t)
}
