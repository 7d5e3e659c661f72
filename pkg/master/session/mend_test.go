package session

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/masterd/masterd/pkg/ipc"
)

// A socket whose name was removed is made again: who is connected stays, and who
// comes gets in.
func TestSocketIsMadeAgain(t *testing.T) {
	h := newHouse(t)
	first := h.expect()
	before := h.join(first, ipc.StateNew)
	if mended, err := h.hub.Mend(); mended || err != nil {
		t.Fatalf("nothing was removed: %v, %v", mended, err)
	}
	for range 3 {
		if err := os.Remove(h.path); err != nil {
			t.Fatal(err)
		}
		if mended, err := h.hub.Mend(); !mended || err != nil {
			t.Fatalf("%v, %v", mended, err)
		}
		if info, err := os.Lstat(h.path); err != nil || info.Mode().Perm() != socketMode {
			t.Errorf("%v, %v", info, err)
		}
	}
	before.say(ipc.Message{Type: ipc.TypeReady})
	first.want(Ready)
	h.hub.Forget(first.e.Worker)
	h.join(h.expect(), ipc.StateNew)
	if err := os.Remove(h.path); err != nil {
		t.Fatal(err)
	}
	if err := h.hub.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(h.path); err == nil {
		t.Error("the socket is left")
	}
	if mended, err := h.hub.Mend(); mended || err != nil {
		t.Errorf("after the end: %v, %v", mended, err)
	}
}

// The workers' user owns the socket that was made again, too.
func TestSocketMadeAgainIsTheWorkers(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root, to give it away")
	}
	h := newHouse(t)
	const user = 54321
	e := expectation(nil)
	e.UID = user
	h.hub.Expect(e)
	if err := os.Remove(h.path); err != nil {
		t.Fatal(err)
	}
	if mended, err := h.hub.Mend(); !mended || err != nil {
		t.Fatalf("%v, %v", mended, err)
	}
	var st unix.Stat_t
	if err := unix.Lstat(h.path, &st); err != nil || st.Uid != user {
		t.Errorf("it is uid %d's: %v", st.Uid, err)
	}
}
