package blob

import (
	"bytes"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// mirror holds what a room tells, as another process would.
type mirror struct {
	t    *testing.T
	held map[string]Held
}

func mirrored(t *testing.T, r *Room) *mirror {
	m := &mirror{t: t, held: map[string]Held{}}
	r.Mirror(Mirror{Keep: m.keep, Drop: m.drop})
	return m
}

func (m *mirror) keep(name string, meta []byte, fd int) {
	m.drop(name)
	dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, firstDup)
	if err != nil {
		m.t.Fatal(err)
	}
	m.held[name] = Held{name, bytes.Clone(meta), dup}
}

func (m *mirror) drop(name string) {
	if h, ok := m.held[name]; ok {
		Release(h.FD)
		delete(m.held, name)
	}
}

func (m *mirror) all() (all []Held) {
	for _, h := range m.held {
		all = append(all, h)
	}
	m.held = map[string]Held{}
	return all
}

func mustKeep(t *testing.T, r *Room, b Blob) uint64 {
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
	first := New(time.Now().Add(time.Hour)) // the clock will be put back
	m := mirrored(t, first)
	b := made(t, "a", "one")
	b.Persist, b.Filed = true, true
	mustKeep(t, first, b)
	mustKeep(t, first, made(t, "b", "gone"))
	mustKeep(t, first, made(t, "a", "another"))
	Release(first.Forget("b"))
	mustKeep(t, first, made(t, "empty", ""))
	last := first.Revision()
	list := first.List()
	for _, name := range []string{"a", "empty"} {
		m.drop(name) // who held them has died
	}
	first.KeepAgain()
	if len(m.held) != 2 || !bytes.Contains(m.held["a"].Meta, []byte(`"revision"`)) {
		t.Errorf("%+v", m.held)
	}
	first.Close()

	next := New(time.Now())
	defer next.Close()
	told := mirrored(t, next)
	if errs := next.Adopt(m.all()); len(errs) != 0 {
		t.Fatal(errs)
	}
	if len(told.held) != 0 {
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
	for _, h := range told.all() {
		Release(h.FD)
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
	held := []Held{
		{"a", []byte(good), dup(int(plain.Fd()))}, {"a", []byte(good), unsealed}, {"../a", []byte(good), dup(memfd)}, {"", []byte(good), dup(memfd)},
		{"a", nil, dup(memfd)}, {"a", []byte("{"), dup(memfd)}, {"a", []byte(strings.Replace(good, "3", "4", 1)), dup(memfd)},
		{"a", []byte(strings.Replace(good, "3", "-3", 1)), dup(memfd)}, {"a", []byte(strings.Replace(good, "7", "0", 1)), dup(memfd)},
		{"a", []byte(strings.Replace(good, "7}", "9007199254740992}", 1)), dup(memfd)}, {"a", []byte(good + strings.Repeat(" ", maxMeta)), dup(memfd)},
		{"later", []byte(good), dup(memfd)}, {"a", []byte(good), -1},
	}
	if errs := r.Adopt(held); len(errs) != len(held) {
		t.Errorf("%d of %d are refused: %v", len(errs), len(held), errs)
	}
	for _, h := range held {
		if h.FD >= 0 && !closes(h.FD) {
			t.Errorf("the descriptor of %q %s is left open", h.Name, h.Meta)
		}
	}
	if len(r.List()) != 1 {
		t.Errorf("%+v", r.List())
	}
	if errs := r.Adopt([]Held{{"a", []byte(good), dup(memfd)}}); len(errs) != 0 {
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
	if errs := r.Adopt([]Held{{"a", r.metaOf(b), fd}}); len(errs) != 0 {
		t.Fatal(errs)
	}
	got, _ := r.Get("a")
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
		room := &Room{last: last}
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
