//go:build linux

package worker

import (
	"testing"
	"time"

	"github.com/masterd/masterd/pkg/ipc"
	"github.com/masterd/masterd/pkg/worker/internal/workertest"
)

// Under a master it speaks for the service: what moves between versions is no
// reason to look away, a stop is.
func TestReadinessUnderAMaster(t *testing.T) {
	s := newSlot(t, "http")
	w, k := managed(t, func(w *Worker) {
		wantReady(t, w, 503, "starting")
		w.Handle("http", workertest.Pong)
	})
	wantReady(t, w.Worker, 200, "ready") // a master may check this very path before it gives any traffic
	k.activate(s)
	wantReady(t, w.Worker, 200, "ready")
	k.send(ipc.Message{Type: ipc.TypePark})
	k.recv(ipc.TypeParked)
	wantReady(t, w.Worker, 200, "ready")
	k.send(ipc.Message{Type: ipc.TypeActivate, Activate: &ipc.Activate{}})
	k.recv(ipc.TypeAccepting)

	k.send(ipc.Message{Type: ipc.TypeAnnounce})
	workertest.Eventually(t, "it says so", func() bool { code, _ := readyz(w.Worker); return code == 503 })
	wantReady(t, w.Worker, 503, "stopping")
	if w.State() != StateActive {
		t.Errorf("it is %s", w.State())
	}
	c := workertest.Dial(t, s.addr)
	c.Want(t, "/", "pong", false) // all goes on in full
	c.Want(t, "/", "pong", false)
	k.drain(time.Hour)
	w.leaves()
	wantReady(t, w.Worker, 503, "stopping")
	c.Want(t, "/", "pong", true)
	if stats := k.drained(); stats.Cut != 0 {
		t.Errorf("%+v", stats)
	}
	if err := w.wait(); err != nil {
		t.Fatal(err)
	}
}

// A drain in favour of another version is none of a load balancer's business.
func TestReadinessWhileAnotherVersionTakesOver(t *testing.T) {
	s := newSlot(t, "http")
	w, k := managed(t, func(w *Worker) { w.Handle("http", workertest.Pong) })
	k.activate(s)
	c := workertest.Dial(t, s.addr)
	c.Want(t, "/", "pong", false)
	k.drain(time.Hour)
	w.leaves()
	wantReady(t, w.Worker, 200, "ready")
	c.Want(t, "/", "pong", true)
	k.drained()
	if err := w.wait(); err != nil {
		t.Fatal(err)
	}
}
