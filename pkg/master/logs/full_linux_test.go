package logs

import (
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// A full file system costs output, not workers, and is over when the master
// has read.
func TestDiskFull(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("logs-test", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Skipf("needs root: %v", err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	r := open(t, Options{Dir: dir})
	o := add(t, r, 1)
	out, _ := o.FDs()
	line := []byte(strings.Repeat("x", 999) + "\n")
	full := false
	r.do(func() { // nobody reads
		for range 2000 {
			if _, err := unix.Write(out, line); err == unix.ENOSPC {
				full = true
				break
			}
		}
	})
	if !full {
		t.Fatal("it does not fill up")
	}
	if _, err := r.Add(Ident{Worker: 2}); err != nil {
		t.Logf("another worker, with no space: %v", err) // an inode may still fit
	}
	look(r)
	say(t, out, "\nafter\n")
	look(r)
	if got := o.Last(1); !slices.Equal(got, []string{"after"}) {
		t.Errorf("%q", got)
	}
}
