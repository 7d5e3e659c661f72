package history

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// On a disk without one more byte, nothing of a line stays in the file, and
// what was refused is written when there is room again.
func TestNoSpaceLeft(t *testing.T) {
	disk := t.TempDir()
	if err := unix.Mount("masterd-test", disk, "tmpfs", 0, "size=64k"); err != nil {
		t.Skipf("cannot mount a tmpfs here: %v", err)
	}
	t.Cleanup(func() {
		// Detached, because somebody's glance at it (df) makes it busy.
		if err := unix.Unmount(disk, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	path := filepath.Join(disk, "history.jsonl")
	l := open(t, path)
	filler := filepath.Join(disk, "filler")
	f, err := os.Create(filler)
	if err != nil {
		t.Fatal(err)
	}
	for refused := 0; refused < 100; {
		if _, err := f.Write(make([]byte, 4096)); err != nil {
			refused++
		}
	}
	f.Close()
	for n := range 3 {
		if err := l.Append(entry(n)); !errors.Is(err, syscall.ENOSPC) {
			t.Fatalf("%v", err)
		}
	}
	if info, err := os.Stat(path); err != nil || info.Size() != 0 {
		t.Errorf("%d bytes of lines that were refused, %v", info.Size(), err)
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	if err := l.Append(entry(3)); err != nil {
		t.Fatal(err)
	}
	if got := numbers(open(t, path).Last(10)); got != "0 1 2 3" {
		t.Errorf("in the file: %s", got)
	}
}
