//go:build linux

package worker

import (
	"net"
	"net/http"
	"testing"

	"github.com/masterd/masterd/pkg/ipc"
	"github.com/masterd/masterd/pkg/worker/internal/serve"
	"github.com/masterd/masterd/pkg/worker/internal/workertest"
)

// Health checks come in every state, look like a client with an address, and
// count nowhere.
func TestProbes(t *testing.T) {
	s := newSlot(t, "http")
	w, k := managed(t, func(w *Worker) {
		w.Handle("http", http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			if host, port, err := net.SplitHostPort(r.RemoteAddr); err != nil || host != "127.0.0.1" || port != "0" {
				http.Error(rw, r.RemoteAddr, 500)
			}
		}))
	})
	probe := func() *workertest.Client {
		c := workertest.On(k.pass("http", ipc.PurposeProbe))
		t.Cleanup(func() { c.Conn.Close() })
		c.Want(t, "/", "", false)
		return c
	}
	first := probe()
	k.activate(s)
	probe()
	k.park()
	probe()
	first.Want(t, "/", "", false)
	kept := workertest.Dial(t, s.addr) // keeps the drain going
	workertest.Eventually(t, "it is accepted", func() bool { return w.Stats().Open == 1 })
	k.drain(0)
	w.leaves()
	probe()
	if n := w.Stats(); n.Open != 1 || n.Accepted != 1 || n.Requests != 0 {
		t.Errorf("health checks were counted: %+v", n)
	}
	kept.Conn.Close()
	k.drained() // although four checks are open
	w.wait()
	first.WantEnd(t)
}

func TestProbesAreLimited(t *testing.T) {
	w, k := managed(t, func(w *Worker) { w.Handle("http", workertest.Pong) })
	var open []net.Conn
	for range serve.MaxProbes {
		open = append(open, k.pass("http", ipc.PurposeProbe))
	}
	k.pass("http", ipc.PurposeProbe).Close()
	k.recv(ipc.TypeRefused)
	workertest.On(open[0]).Want(t, "/", "pong", false)
	for _, c := range open {
		c.Close()
	}
	workertest.Eventually(t, "they are gone", func() bool { return w.core.Traffic.Probes.Len() == 0 })
	k.drain(0)
	k.drained()
	w.wait()
}

// A client's connection that somebody else accepted is served like one of ours.
func TestPassedClients(t *testing.T) {
	s := newSlot(t, "http")
	w, k := managed(t, func(w *Worker) { w.Handle("http", workertest.Pong) })
	k.activate(s)
	k.ask(ipc.Message{Type: ipc.TypePause}, ipc.TypePaused)
	c := workertest.Dial(t, s.addr)
	accepted, err := s.ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	raw, err := accepted.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	raw.Control(func(fd uintptr) {
		k.send(ipc.Message{Type: ipc.TypeConn, Conn: &ipc.Conn{Listener: "http", Purpose: ipc.PurposeServe}}, int(fd))
	})
	accepted.Close()
	c.Want(t, "/", "pong", false)
	if n := w.Stats(); n.Open != 1 || n.Accepted != 1 || n.Requests != 1 {
		t.Errorf("counted as %+v", n)
	}
	k.drain(0)
	w.leaves()
	c.Want(t, "/", "pong", true)
	k.drained()
	w.wait()
}
