package blob

import (
	"bytes"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/masterd/masterd/pkg/master/keeper"
	"github.com/masterd/masterd/pkg/master/keeper/keepertest"
)

// held is a room whose blobs another process holds.
func held(t *testing.T, now time.Time) (*Set, *keepertest.Shelf) {
	r, s := New(now), keepertest.New(t)
	r.keeper = s
	return r, s
}

func kept(name, meta string, fd int) keeper.Held {
	return keeper.Held{Name: HeldPrefix + name, Meta: []byte(meta), FD: fd}
}

func mustKeep(t *testing.T, r *Set, b Blob) uint64 {
	t.Helper()
	revision, replaced, err := r.Keep(b, roomy())
	if err != nil {
		t.Fatal(err)
	}
	if replaced >= 0 {
		Release(replaced)
	}
	return revision
}

// A master that dies has told another process of all that it kept; the next has
// the same, and revisions go on, whatever the clock says.
func TestTheNextMasterHasWhatWasKept(t *testing.T) {
	first, m := held(t, time.Now().Add(time.Hour)) // the clock will be put back
	b := made(t, "a", "one")
	b.Persist, b.Filed = true, true
	mustKeep(t, first, b)
	mustKeep(t, first, made(t, "b", "gone"))
	mustKeep(t, first, made(t, "a", "another"))
	Release(first.Forget("b"))
	mustKeep(t, first, made(t, "empty", ""))
	last := first.Revision()
	list := first.List()
	m.Check() // another one can be given them, should who holds them die
	if a, _ := m.Of("blob/a"); len(m.Names()) != 2 || !bytes.Contains(a.Meta, []byte(`"revision"`)) {
		t.Errorf("%q, %+v", m.Names(), a)
	}
	first.Close()

	next, told := held(t, time.Now())
	defer next.Close()
	if errs := next.Adopt(m.All()); len(errs) != 0 {
		t.Fatal(errs)
	}
	if len(told.Names()) != 0 {
		t.Error("the one who held it is told of it")
	}
	got := next.List()
	if len(got) != len(list) {
		t.Fatalf("%+v", got)
	}
	for i, b := range got {
		want := list[i]
		want.FD = b.FD
		want.Since = b.Since
		if b != want || !b.Since.Equal(list[i].Since) {
			t.Errorf("%+v, want %+v", b, want)
		}
	}
	if content(t, got[0]) != "another" || next.bytes != uint64(len("another")) {
		t.Errorf("%q, %d bytes", content(t, got[0]), next.bytes)
	}
	if revision := mustKeep(t, next, made(t, "c", "new")); revision <= last {
		t.Errorf("revision %d after %d", revision, last)
	}
	next.Above(1)
	next.Above(last + 1<<20)
	if revision := mustKeep(t, next, made(t, "d", "new")); revision <= last+1<<20 {
		t.Errorf("revision %d", revision)
	}
	told.Check()
	if got := told.Names(); !slices.Equal(got, []string{"blob/c", "blob/d"}) {
		t.Errorf("%q", got)
	}
}

func TestAdoptRefusesWhatIsNotFit(t *testing.T) {
	r := New(time.Now())
	defer r.Close()
	mustKeep(t, r, made(t, "later", "the later one"))
	good := `{"size":3,"generation":1,"since":"2026-01-02T03:04:05Z","revision":7}`
	plain, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	plain.WriteString("one")
	dup := func(fd int) int {
		n, err := unix.Dup(fd)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	memfd := made(t, "a", "one").FD
	defer Release(memfd)
	unsealed, err := unix.MemfdCreate("a", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		t.Fatal(err)
	}
	unix.Write(unsealed, []byte("one"))
	all := []keeper.Held{
		kept("a", good, dup(int(plain.Fd()))), kept("a", good, unsealed), kept("../a", good, dup(memfd)), kept("", good, dup(memfd)),
		kept("a", "", dup(memfd)), kept("a", "{", dup(memfd)), kept("a", strings.Replace(good, "3", "4", 1), dup(memfd)),
		kept("a", strings.Replace(good, "3", "-3", 1), dup(memfd)), kept("a", strings.Replace(good, "7", "0", 1), dup(memfd)),
		kept("a", strings.Replace(good, "7}", "9007199254740992}", 1), dup(memfd)), kept("a", good+strings.Repeat(" ", maxMeta), dup(memfd)),
		kept("later", good, dup(memfd)), kept("a", good, -1),
	}
	if errs := r.Adopt(all); len(errs) != len(all) {
		t.Errorf("%d of %d are refused: %v", len(errs), len(all), errs)
	}
	for _, h := range all {
		if h.FD >= 0 && !closes(h.FD) {
			t.Errorf("the descriptor of %q %s is left open", h.Name, h.Meta)
		}
	}
	if len(r.List()) != 1 {
		t.Errorf("%+v", r.List())
	}
	if errs := r.Adopt([]keeper.Held{kept("a", good, dup(memfd))}); len(errs) != 0 {
		t.Error(errs)
	}
}

// The memory outlives the process that made it, and the one that held it.
func TestMemoryOfAMasterThatWasKilled(t *testing.T) {
	b := made(t, "a", "of the first")
	file := os.NewFile(uintptr(b.FD), "a")
	c := exec.Command("/bin/sh", "-c", "exec sleep 1000")
	c.ExtraFiles = []*os.File{file}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	file.Close() // the first master's
	pidfd, err := unix.PidfdOpen(c.Process.Pid, 0)
	if err != nil {
		t.Skip(err)
	}
	defer unix.Close(pidfd)
	fd, err := unix.PidfdGetfd(pidfd, 3, 0)
	if err != nil {
		c.Process.Kill()
		c.Wait()
		t.Skip(err)
	}
	c.Process.Kill() // the holder
	c.Wait()
	r := New(time.Now())
	defer r.Close()
	b.Revision = 5
	if errs := r.Adopt([]keeper.Held{kept("a", string(r.metaOf(b)), fd)}); len(errs) != 0 {
		t.Fatal(errs)
	}
	got := r.blobs["a"]
	if content(t, got) != "of the first" {
		t.Errorf("%+v", got)
	}
}

func FuzzMeta(f *testing.F) {
	r := New(time.Unix(1764102320, 0))
	f.Add("a", r.metaOf(Blob{Size: 3, Revision: 7, Persist: true, Since: time.Unix(1764102320, 0)}))
	f.Add("..", []byte("{}"))
	f.Fuzz(func(t *testing.T, name string, text []byte) {
		b, last, err := parseMeta(name, text)
		if err != nil {
			return
		}
		if b.Size < 0 || b.Revision == 0 || last < b.Revision || last > maxRevision || b.Name != name {
			t.Errorf("%+v, %d", b, last)
		}
		room := &Set{last: last}
		again, _, err := parseMeta(name, room.metaOf(b))
		if err != nil {
			t.Fatal(err)
		}
		again.Since, b.Since = time.Time{}, time.Time{}
		if again != b {
			t.Errorf("%+v is read again as %+v", b, again)
		}
	})
}
