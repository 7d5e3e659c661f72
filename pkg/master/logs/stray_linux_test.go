package logs

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const disk = 16 << 20 // bytes of the file system that the tests below have

// small is a collector in a file system of its own.
func small(t *testing.T) (dir string, r *Collector) {
	t.Helper()
	dir = t.TempDir()
	if err := unix.Mount("logs-test", dir, "tmpfs", 0, "size=16m"); err != nil {
		t.Skipf("needs root: %v", err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	return dir, open(t, Options{Dir: dir})
}

// taken is how much of a file system is taken, in bytes.
func taken(t *testing.T, dir string) uint64 {
	t.Helper()
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		t.Fatal(err)
	}
	return (st.Blocks - st.Bfree) * uint64(st.Bsize)
}

// A worker takes space of the file system that all outputs are in: behind the end of
// its own, where it counts in no size, or before what was read. That is given back, and
// no line is lost for it.
func TestWhatIsOutsideOfAnOutputIsGivenBack(t *testing.T) {
	dir, r := small(t)
	ways := map[string]func(fd int) error{
		"reserved behind its end":      func(fd int) error { return unix.Fallocate(fd, unix.FALLOC_FL_KEEP_SIZE, 1<<20, 3*disk/4) },
		"reserved far behind its end":  func(fd int) error { return unix.Fallocate(fd, unix.FALLOC_FL_KEEP_SIZE, 1<<50, 3*disk/4) },
		"written before what was read": func(fd int) error { return rewrite(fd, 3*disk/4) },
	}
	worker := uint64(0)
	for what, take := range ways {
		worker++
		o := add(t, r, worker)
		out, _ := o.FDs()
		say(t, out, "before\n")
		if what == "written before what was read" { // what is read can only be written again if there was so much
			if err := unix.Ftruncate(out, disk); err != nil {
				t.Fatal(err)
			}
		}
		look(r)
		look(r)
		r.do(func() { // nobody reads
			if err := take(out); err != nil {
				t.Errorf("%s: %v", what, err)
			}
			say(t, out, "\nafter\n")
			if n := taken(t, dir); n < disk/2 {
				t.Errorf("%s: only %d bytes are taken", what, n)
			}
		})
		look(r)
		look(r)
		if n := taken(t, dir); n > strayLimit+1<<20 {
			t.Errorf("%s: %d of %d bytes are still taken", what, n, disk)
		}
		if got := o.Last(1); !slices.Equal(got, []string{"after"}) && !slices.Contains(o.Last(3), "after") {
			t.Errorf("%s: the last line is %q", what, got)
		}
		o.Finish()
	}
}

// rewrite writes at the beginning of an output that was opened to append.
func rewrite(fd int, size int) error {
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	if err != nil {
		return err
	}
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFL, flags&^unix.O_APPEND); err != nil {
		return err
	}
	defer unix.FcntlInt(uintptr(fd), unix.F_SETFL, flags)
	_, err = unix.Pwrite(fd, make([]byte, size), 0)
	return err
}

// Whoever does it again and again is given up; whoever writes much is not.
func TestWhoTakesSpaceAgainAndAgainIsUnfit(t *testing.T) {
	_, r := small(t)
	unfit := map[uint64]string{}
	r.do(func() { r.opt.Unfit = func(w uint64, why string) { unfit[w] += why } })
	honest, hostile := add(t, r, 1), add(t, r, 2)
	writes, _ := honest.FDs()
	_, takes := hostile.FDs()
	line := bytes.Repeat([]byte("0123456\n"), 1<<17)
	for range 3 * maxStrays {
		r.do(func() {
			if _, err := unix.Write(writes, line); err != nil {
				t.Error(err)
			}
			if err := unix.Fallocate(takes, unix.FALLOC_FL_KEEP_SIZE, 1<<20, disk/2); err != nil {
				t.Error(err)
			}
		})
		look(r)
	}
	r.do(func() {
		if len(unfit) != 1 || strings.Count(unfit[2], "10 times") != 1 {
			t.Errorf("given up: %v", unfit)
		}
	})
	if got := strings.Join(hostile.Last(10), "\n"); !strings.Contains(got, "were given back") {
		t.Errorf("it is said: %q", got)
	}
}

// Who opens its output again without O_APPEND does it now and then, and is not given up.
func TestWhoTakesSpaceNowAndThenIsFit(t *testing.T) {
	_, r := small(t)
	c := newClock()
	r.do(func() {
		r.opt.Clock = func() time.Time { return c.now }
		r.opt.Unfit = func(w uint64, why string) { t.Error(why) }
	})
	_, takes := add(t, r, 1).FDs()
	for range 3 * maxStrays {
		r.do(func() {
			c.now = c.now.Add(strayWindow / (maxStrays - 2))
			if err := unix.Fallocate(takes, unix.FALLOC_FL_KEEP_SIZE, 1<<20, disk/2); err != nil {
				t.Error(err)
			}
		})
		look(r)
	}
}

// Nor can it be kept while no master reads.
func TestBoundGivesBackWhatIsOutside(t *testing.T) {
	dir, r := small(t)
	for i, at := range []int64{0, 1 << 20, 1 << 50} {
		path := filepath.Join(dir, "w7.out")
		if err := os.WriteFile(path, []byte("before\n")[:7*min(i, 1)], 0o600); err != nil {
			t.Fatal(err)
		}
		fd, err := unix.Open(path, unix.O_WRONLY|unix.O_APPEND, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		if err := unix.Fallocate(fd, unix.FALLOC_FL_KEEP_SIZE, at, 3*disk/4); err != nil {
			t.Fatal(err)
		}
		Bound(dir)
		if n := taken(t, dir); n > strayLimit+1<<20 {
			t.Errorf("from %d on: %d of %d bytes are still taken", at, n, disk)
		}
	}
	_ = r
}
