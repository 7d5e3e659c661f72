package listen

import (
	"testing"

	"golang.org/x/sys/unix"
)

// A shared socket stays as the worker has it that serves from it: a program that
// waits in accept does not expect EAGAIN. Once nobody has it, it is as new.
func TestModeOfASharedSocketIsItsHolders(t *testing.T) {
	one := tcp("http", "127.0.0.1")
	one.Steering = shared
	w := newWorld(t, one)
	man := func(slot int) File {
		t.Helper()
		files, err := w.Man(slot, []string{"http"}, testGeneration)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = unix.Close(files[0].FD) })
		return files[0]
	}
	blocks := func(f File) bool {
		t.Helper()
		flags, err := unix.FcntlInt(uintptr(f.FD), unix.F_GETFL, 0)
		if err != nil {
			t.Fatal(err)
		}
		return flags&unix.O_NONBLOCK == 0
	}
	first := man(0)
	if first.Held || blocks(first) {
		t.Errorf("the first worker's: held %v, blocks %v", first.Held, blocks(first))
	}
	if err := unix.SetNonblock(first.FD, false); err != nil {
		t.Fatal(err)
	}
	w.steer(Share{Slot: 0, Weight: 1})
	second := man(1)
	if !second.Held || !blocks(first) {
		t.Errorf("beside another: held %v, blocks %v", second.Held, blocks(first))
	}
	w.Quarantine(0)
	w.Quarantine(1)
	if third := man(2); third.Held || blocks(third) {
		t.Errorf("when nobody has it: held %v, blocks %v", third.Held, blocks(third))
	}
}
