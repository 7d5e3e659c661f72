package history

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
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
	if err := l.Append(entry(0)); err != nil {
		t.Fatal(err)
	}
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
	// The page that the first line is in takes a part of these.
	for n := 1; n <= 3; n++ {
		e := entry(n)
		e.Why, e.Reason = strings.Repeat("y", maxText), strings.Repeat("z", maxText)
		if err := l.Append(e); !errors.Is(err, syscall.ENOSPC) {
			t.Fatalf("%v", err)
		}
	}
	if text, err := os.ReadFile(path); err != nil || string(text) != lines(entry(0)) {
		t.Errorf("a part of what was refused is in the file: %d bytes, %v", len(text), err)
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	if err := l.Append(entry(4)); err != nil {
		t.Fatal(err)
	}
	if got := numbers(open(t, path).Last(10)); got != "0 1 2 3 4" {
		t.Errorf("in the file: %s", got)
	}
}
