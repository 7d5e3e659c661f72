//go:build linux

package worker

import (
	"context"
	"strings"
	"testing"

	"github.com/masterd/masterd/pkg/ipc"
	"github.com/masterd/masterd/pkg/worker/internal/workertest"
)

// A worker that lost its master serves on, and says to the next what it is.
func TestReconnect(t *testing.T) {
	s := newSlot(t, "http")
	w, k := managed(t, func(w *Worker) { w.Handle("http", workertest.Pong) })
	k.activate(s)
	c := workertest.Dial(t, s.addr)
	for _, state := range []string{"active", "parked", "active"} {
		if state == "parked" {
			k.park()
		}
		if string(w.State()) != state {
			k.activate()
		}
		k.m.ln.Close() // which removes the path too
		k.close()
		if state == "active" {
			c.Want(t, "/", "pong", false)
		}
		k.m.listen()
		var hello ipc.Hello
		k, hello = k.m.accept()
		if hello.State != state {
			t.Fatalf("hello says %q, it was %q", hello.State, state)
		}
		k.welcome("http")
		k.recv(ipc.TypeBeat)
	}
	k.activate(s) // the socket it has already is no second one
	if n := strings.Count(workertest.Stacks(), "serve.(*acceptor).Accept("); n != 1 {
		t.Errorf("%d sockets are accepted from", n)
	}
	c.Conn.Close()
	k.drain(0)
	k.drained()
	w.wait()
}

// A reject ends a worker that nobody knows, with the master's words; one that
// serves already goes on serving.
func TestReject(t *testing.T) {
	m := newMaster(t)
	w := workerWith(t, Options{}, m.env())
	w.Handle("http", workertest.Pong)
	r := run(t, w)
	k, _ := m.accept()
	k.send(ipc.Message{Type: ipc.TypeReject, Text: "no such worker here"})
	if err := r.wait(); err == nil || !strings.Contains(err.Error(), "no such worker here") {
		t.Fatalf("Run says %v", err)
	}

	s := newSlot(t, "http")
	r, k = managed(t, func(w *Worker) { w.Handle("http", workertest.Pong) })
	k.activate(s)
	k.close()
	k, _ = k.m.accept()
	k.send(ipc.Message{Type: ipc.TypeReject, Text: "who are you?"})
	c := workertest.Dial(t, s.addr)
	c.Want(t, "/", "pong", false)
	c.Conn.Close()
	k, _ = k.m.accept()
	k.welcome("http")
	k.drain(0)
	k.drained()
	r.wait()
}

func TestVersionThatNobodySpeaks(t *testing.T) {
	m := newMaster(t)
	w := workerWith(t, Options{}, m.env())
	w.Handle("http", workertest.Pong)
	r := run(t, w)
	k, hello := m.accept()
	if hello.Min != ipc.MinVersion || hello.Max != ipc.MaxVersion {
		t.Errorf("hello says %d to %d", hello.Min, hello.Max)
	}
	k.send(ipc.Message{Type: ipc.TypeWelcome, Welcome: &ipc.Welcome{Version: 99, BeatMS: 1000}})
	if err := r.wait(); err == nil || !strings.Contains(err.Error(), "version 99") {
		t.Fatalf("Run says %v", err)
	}
}

func TestListenerWithoutHandler(t *testing.T) {
	m := newMaster(t)
	w := workerWith(t, Options{}, m.env())
	w.Handle("http", workertest.Pong)
	r := run(t, w)
	k, _ := m.accept()
	k.welcome("http", "debug")
	if err := r.wait(); err == nil || !strings.Contains(err.Error(), `Handle("debug"`) {
		t.Fatalf("Run says %v", err)
	}
}

// The next master learns from the hello what the one before has made of it.
func TestHelloTellsWhatAnEarlierMasterDid(t *testing.T) {
	s := newSlot(t, "http")
	held := make(chan struct{})
	r, k := managed(t, func(w *Worker) {
		w.Handle("http", workertest.Pong)
		w.OnActive(func(ctx context.Context) { <-ctx.Done(); <-held })
	})
	k.activate(s)
	k.ask(ipc.Message{Type: ipc.TypePause}, ipc.TypePaused)
	parked := k.send(ipc.Message{Type: ipc.TypePark}) // not answered: its background work does not end
	workertest.Eventually(t, "parked", func() bool { return r.State() == StateParked })
	k.m.ln.Close()
	k.close()
	k.m.listen()
	k, hello := k.m.accept()
	if hello.State != ipc.StateParked || hello.Seq != parked || len(hello.Listeners) != 1 || hello.Listeners[0] != "http" || !hello.Paused || !hello.Background {
		t.Fatalf("%+v", hello)
	}
	k.welcome("http")
	close(held)
	if m := k.recv(ipc.TypeParked); m.Seq != parked { // late, and to its number
		t.Errorf("%+v", m)
	}
	k.drain(0)
	k.drained()
	r.wait()
}
