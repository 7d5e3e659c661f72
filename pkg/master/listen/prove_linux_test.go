package listen

import (
	"testing"
	"time"
)

// A quarantine that was long before the slot had a fresh socket, as handshakes took
// their time, leaves as much time to prove where that is as any other.
func TestProofHasItsTimeAfterALongQuarantine(t *testing.T) {
	w := newWorld(t, tcp("http", "127.0.0.1"))
	w.host()
	w.man(0, "http")
	w.steer(Share{0, 1})
	w.mu.Lock()
	l := w.listeners[0]
	l.order[3], l.order[4] = l.order[4], l.order[3] // as if somebody had moved them
	q := &quarantine{since: time.Now().Add(-blindQuarantine), settled: true}
	w.mu.Unlock()
	w.endQuarantineOf(t, 3, q)
	if w.provenIn(l, 3, q) {
		t.Error("the slot is used although connections to it go astray")
	}
	q.freshAt = time.Now().Add(-2 * proveLimit)
	w.mu.Lock()
	l.suspect = true
	w.mu.Unlock()
	if !w.provenIn(l, 3, q) {
		t.Error("the slot is kept back for ever")
	}
}

func (w *world) endQuarantineOf(t *testing.T, slot int, q *quarantine) {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.endQuarantine(slot, q, nil, nil, time.Now())
	if !q.fresh {
		t.Fatal("the quarantine does not end")
	}
}
