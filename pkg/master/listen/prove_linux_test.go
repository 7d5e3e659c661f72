package listen

import (
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A quarantine that was long before the slot had a fresh socket, as handshakes took
// their time, leaves as much time to prove where that is as any other.
func TestProofHasItsTimeAfterALongQuarantine(t *testing.T) {
	w := newWorld(t, tcp("http", "127.0.0.1"))
	w.host()
	w.man(0, "http")
	w.steer(Share{Slot: 0, Weight: 1})
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

// Whoever has a socket can shut it down at the moment when the master moves its own:
// then another free slot moves, and nothing tells. So after a shutdown all are looked
// for, though the slot itself is where it should be.
func TestProofFindsOtherFreeSlots(t *testing.T) {
	w := newWorld(t, tcp("http", "127.0.0.1"))
	w.host()
	w.man(0, "http")
	w.steer(Share{Slot: 0, Weight: 1})
	files, err := w.Man(3, []string{"http"}, testGeneration)
	if err != nil {
		t.Fatal(err)
	}
	defer closeFD(files[0].FD)
	if err := unix.Shutdown(files[0].FD, unix.SHUT_RDWR); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is mended", func() bool { return w.Status()[0].Drift == 1 })
	w.mu.Lock()
	l := w.listeners[0]
	at, last := slices.Index(l.order, 5), slices.Index(l.order, 6)
	l.order[at], l.order[last] = 6, 5 // as if that had happened
	w.mu.Unlock()
	w.Quarantine(3)
	eventually(t, "they are found", func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return l.order[at] == 5 && l.order[last] == 6 && w.quarantine[3] == nil && !l.suspect
	})
	eventually(t, "the master's own is the last again", func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return !l.crooked()
	})
}

// While somebody may still shut a socket down that nobody mans, the master moves none.
func TestNothingIsMovedUnderAnAttack(t *testing.T) {
	w := newWorld(t, tcp("http", "127.0.0.1"))
	w.host()
	w.man(0, "http")
	w.steer(Share{Slot: 0, Weight: 1})
	w.mu.Lock()
	defer w.mu.Unlock()
	l := w.listeners[0]
	own, n := l.own(), len(l.order)
	l.aimed = time.Time{}
	l.order[3], l.order[n-1] = own, 3 // whoever had slot 3's shut it down, and listened again
	l.suspect, l.sockets[3].owner = true, testGeneration
	w.straighten(l)
	if l.order[3] != own {
		t.Error("it was moved")
	}
	l.sockets[3].owner = noOwner
	l.shares = []Share{{Slot: l.order[n-2], Weight: 1}} // it would move next
	w.straighten(l)
	if l.order[3] != own {
		t.Error("it was moved before a slot in use")
	}
	l.shares = []Share{{Slot: 0, Weight: 1}}
	l.suspect, l.sockets[3].owner = false, testGeneration
	w.straighten(l)
	if l.order[3] == own {
		t.Error("it was not moved, and nobody was suspected")
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
