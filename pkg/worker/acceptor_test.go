//go:build linux

package worker

import (
	"testing"

	"github.com/masterd/masterd/pkg/ipc"
	"github.com/masterd/masterd/pkg/worker/internal/workertest"
)

// Whoever shares a socket can make it blocking beneath us: systemd does it to its own,
// whenever it starts the next master. Clients are served then, and every word of the
// master's is followed.
func TestSocketIsMadeBlocking(t *testing.T) {
	s := newSlot(t, "http")
	w, k := managed(t, func(w *Worker) { w.Handle("http", workertest.Pong) })
	k.activate(s)
	var kept []*workertest.Client
	block := func() {
		t.Helper()
		workertest.SetBlocking(t, s.ln)
		kept = append(kept, workertest.Dial(t, s.addr))
		kept[len(kept)-1].Want(t, "/", "pong", false)
		workertest.AcceptsInKernel(t)
	}
	for range 3 {
		block()
		k.ask(ipc.Message{Type: ipc.TypePause}, ipc.TypePaused)
		if !s.nonblocking(t) {
			t.Error("it was left blocking")
		}
		k.ask(ipc.Message{Type: ipc.TypeResume}, ipc.TypeAccepting)
	}
	block()
	for _, c := range kept {
		c.Want(t, "/", "pong", false)
		c.Conn.Close()
	}
	k.drain(0)
	k.drained()
	if err := w.wait(); err != nil {
		t.Error(err)
	}
	noGoroutines(t)
}
