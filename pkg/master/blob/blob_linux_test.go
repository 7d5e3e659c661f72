package blob

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/masterd/masterd/pkg/ipc"
)

func roomy() Limits { return Limits{Blob: 1 << 20, Total: 1 << 21, Count: 4} }

func made(t *testing.T, name, content string) Blob {
	t.Helper()
	fd, err := memory(name, []byte(content))
	if err != nil {
		t.Fatal(err)
	}
	return Blob{Name: name, Size: int64(len(content)), FD: fd, Generation: 3, Since: time.Unix(1764102320, 0).UTC()}
}

func content(t *testing.T, b Blob) string {
	t.Helper()
	data := make([]byte, b.Size)
	if err := read(b.FD, data); err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// isOpen tells whether a descriptor is still somebody's.
func isOpen(fd int) bool {
	_, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
	return err == nil
}

// closes waits for a descriptor to be closed.
func closes(fd int) bool {
	for end := time.Now().Add(10 * time.Second); isOpen(fd); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			return false
		}
	}
	return true
}

func TestRoomReplacesAtOnce(t *testing.T) {
	r := New(time.Now())
	defer r.Close()
	a, b := made(t, "a", "one"), made(t, "a", "another")
	first, replaced, err := r.Keep(a, roomy())
	if err != nil || replaced != -1 {
		t.Fatalf("%d, %v", replaced, err)
	}
	second, replaced, err := r.Keep(b, roomy())
	if err != nil || replaced != a.FD || second <= first || r.Revision() != second {
		t.Fatalf("%d after %d, replaced %d, %v", second, first, replaced, err)
	}
	Release(replaced)
	got, ok := r.blobs["a"]
	if !ok || content(t, got) != "another" || got.Revision != second {
		t.Errorf("%+v", got)
	}
	if fd := r.Forget("a"); fd != b.FD || r.Revision() <= second {
		t.Errorf("forgot %d", fd)
	}
	Release(b.FD)
	if fd := r.Forget("a"); fd != -1 || len(r.List()) != 0 || r.bytes != 0 {
		t.Errorf("forgot %d of nothing; %+v", fd, r)
	}
}

// Each limit holds, also for what replaces, and a refusal changes nothing.
func TestRoomIsLimited(t *testing.T) {
	r := New(time.Now())
	defer r.Close()
	l := Limits{Blob: 100, Total: 250, Count: 3}
	keep := func(name string, size int) error {
		t.Helper()
		b := made(t, name, strings.Repeat("x", size))
		_, replaced, err := r.Keep(b, l)
		if err != nil {
			Release(b.FD)
		} else if replaced >= 0 {
			Release(replaced)
		}
		return err
	}
	for _, c := range []struct {
		name string
		size int
		says string
	}{
		{"a", 101, "state.blob"}, {"a", 100, ""}, {"b", 100, ""}, {"c", 51, "state.total"}, {"c", 50, ""}, {"d", 0, "state.count"},
		{"a", 100, ""}, {"c", 51, "state.total"}, {"a", 50, ""}, {"c", 100, ""}, {"../e", 1, "name"}, {"", 1, "name"},
	} {
		before := fmt.Sprint(r.List(), r.bytes, r.last)
		err := keep(c.name, c.size)
		if c.says == "" && err != nil || c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)) {
			t.Errorf("%s with %d bytes: %v", c.name, c.size, err)
		}
		if c.says != "" && fmt.Sprint(r.List(), r.bytes, r.last) != before {
			t.Errorf("a refusal has changed %s to %v", before, r.List())
		}
	}
	var sum uint64
	for _, b := range r.List() {
		sum += uint64(b.Size)
	}
	if sum != r.bytes || sum != 250 {
		t.Errorf("%d bytes are kept and %d counted", sum, r.bytes)
	}
	// Limits that have become smaller: what is there stays, and may shrink.
	l = Limits{Blob: 100, Total: 100, Count: 1}
	if err := keep("a", 50); err == nil {
		t.Error("kept beyond the total")
	}
	if len(r.List()) != 3 {
		t.Errorf("%+v", r.List())
	}
	fds := r.List()
	r.Close()
	for _, b := range fds {
		if !closes(b.FD) {
			t.Errorf("%s is still open", b.Name)
		}
	}
}

// A revision of another master is not one of this.
func TestRevisionsGoOn(t *testing.T) {
	then := time.Unix(1764102320, 0)
	a := New(then)
	for range 1000 {
		if _, replaced, err := a.Keep(Blob{Name: "a", FD: -1}, roomy()); err != nil || replaced >= 0 {
			t.Fatal(replaced, err)
		}
	}
	if b := New(then.Add(time.Second)); b.Revision() <= a.Revision() || b.Revision() >= 1<<53 {
		t.Errorf("%d after %d", b.Revision(), a.Revision())
	}
}

func TestStoreAndLoad(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "blobs")
	if all, err := Load(dir, roomy()); err != nil || all != nil {
		t.Fatalf("%v, %v", all, err)
	}
	if err := Store(dir, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir); err == nil {
		t.Error("a directory was made for nothing")
	}
	a, b, dots := made(t, "a", "one\ntwo\n"), made(t, "b", "not kept"), made(t, "..", "")
	a.Persist, dots.Persist = true, true
	if err := Store(dir, []Blob{a, b, dots}); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(filepath.Join(dir, "a.blob"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	all, err := Load(dir, roomy())
	if err != nil || len(all) != 2 {
		t.Fatalf("%+v, %v", all, err)
	}
	if got := all[1]; got.Name != "a" || content(t, got) != "one\ntwo\n" || !got.Persist || got.Generation != 3 || !got.Since.Equal(a.Since) {
		t.Errorf("%+v", got)
	}
	// What is not kept any more is gone after the next.
	if err := Store(dir, []Blob{dots}); err != nil {
		t.Fatal(err)
	}
	if all, err := Load(dir, roomy()); err != nil || len(all) != 1 {
		t.Errorf("%+v, %v", all, err)
	}
	if err := Drop(dir, ".."); err != nil {
		t.Error(err)
	}
	if err := Drop(dir, ".."); err != nil {
		t.Error(err)
	}
	if all, err := Load(dir, roomy()); err != nil || len(all) != 0 {
		t.Errorf("%+v, %v", all, err)
	}
}

// Whatever has become of the files: what is good is read, nothing of the rest.
func TestDamagedFiles(t *testing.T) {
	dir := t.TempDir()
	good, bad := made(t, "good", "content"), made(t, "bad", "content")
	good.Persist, bad.Persist = true, true
	if err := Store(dir, []Blob{good, bad}); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "bad.blob")
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	other, err := os.ReadFile(filepath.Join(dir, "good.blob"))
	if err != nil {
		t.Fatal(err)
	}
	flipped := bytes.Clone(whole)
	flipped[len(flipped)-1] ^= 1
	for name, data := range map[string][]byte{
		"empty": {}, "no header": []byte("hello"), "cut": whole[:len(whole)-1], "longer": append(bytes.Clone(whole), 'x'), "a flipped bit": flipped,
		"another's": other, "a long first line": bytes.Repeat([]byte("x"), 5000), "too large": append(bytes.Clone(whole), make([]byte, 2<<20)...),
		"only a header": whole[:bytes.IndexByte(whole, '\n')+1], "not JSON": append([]byte("{\n"), whole...),
	} {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		all, err := Load(dir, roomy())
		if err == nil || !strings.Contains(err.Error(), "kept blob bad is not taken over") || strings.Contains(err.Error(), "content\n") {
			t.Errorf("%s: %v", name, err)
		}
		if len(all) != 1 || content(t, all[0]) != "content" {
			t.Errorf("%s: %+v", name, all)
		}
		for _, b := range all {
			Release(b.FD)
		}
	}
	// Nor is anything followed, or waited for.
	for name, make := range map[string]func() error{
		"a link":      func() error { return os.Symlink("good.blob", path) },
		"a pipe":      func() error { return unix.Mkfifo(path, 0o600) },
		"a directory": func() error { return os.Mkdir(path, 0o700) },
	} {
		if err := os.RemoveAll(path); err != nil {
			t.Fatal(err)
		}
		if err := make(); err != nil {
			t.Fatal(err)
		}
		if all, err := Load(dir, roomy()); err == nil || len(all) != 1 {
			t.Errorf("%s: %+v, %v", name, all, err)
		}
	}
}

// FuzzLoad: whatever a file holds, what is taken from it is what Store would have
// written for it.
func FuzzLoad(f *testing.F) {
	f.Add([]byte(`{"name":"a","size":7,"sha256":"ed7002b439e9ac845f22357d822bac1444730fbdb6016d3ec9432297b9ec9f73","generation":1,"since":"2026-01-02T03:04:05Z"}` + "\ncontent"))
	f.Add([]byte(`{"name":"a","size":0,"sha256":"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"}` + "\n"))
	f.Add([]byte(`{"name":"../a","size":-1}` + "\n"))
	dir := f.TempDir()
	path := filepath.Join(dir, "a.blob")
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		all, err := Load(dir, roomy())
		if len(all) == 0 {
			if err == nil {
				t.Error("nothing is taken over, and no word of it")
			}
			return
		}
		b := all[0]
		defer Release(b.FD)
		_, want, _ := bytes.Cut(data, []byte("\n"))
		if err != nil || len(all) != 1 || b.Name != "a" || !b.Persist || b.Size != int64(len(want)) || content(t, b) != string(want) {
			t.Errorf("%+v, %v", all, err)
		}
		if err := ipc.CheckSealed(b.FD, b.Size); err != nil {
			t.Error(err)
		}
	})
}

// A full disk: what does not fit keeps its old file, what fits is written.
func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=256k"); err != nil {
		t.Skipf("a small file system cannot be mounted here: %v", err)
	}
	defer func() { _ = unix.Unmount(dir, unix.MNT_DETACH) }()
	old, fits := made(t, "large", "what it was"), made(t, "small", "small")
	old.Persist, fits.Persist = true, true
	if err := Store(dir, []Blob{old}); err != nil {
		t.Fatal(err)
	}
	large := made(t, "large", strings.Repeat("x", 1<<20))
	large.Persist = true
	if err := Store(dir, []Blob{large, fits}); err == nil || !strings.Contains(err.Error(), "blob large") || !strings.Contains(err.Error(), "no space left") {
		t.Errorf("%v", err)
	}
	all, err := Load(dir, roomy())
	if err != nil || len(all) != 2 || content(t, all[0]) != "what it was" || content(t, all[1]) != "small" {
		t.Errorf("%+v, %v", all, err)
	}
}

func TestPrune(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "blobs")
	if err := Prune(dir, nil); err != nil {
		t.Fatal("there is nothing:", err)
	}
	a, b := made(t, "a", "1"), made(t, "b", "2")
	a.Persist, b.Persist = true, true
	if err := Store(dir, []Blob{a, b}); err != nil {
		t.Fatal(err)
	}
	other := filepath.Join(dir, "notes.txt")
	if err := os.WriteFile(other, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Prune(dir, func(name string) bool { return name == "b" }); err != nil {
		t.Fatal(err)
	}
	left, err := Load(dir, roomy())
	if err != nil || len(left) != 1 || left[0].Name != "b" {
		t.Errorf("%+v, %v", left, err)
	}
	for _, x := range left {
		Release(x.FD)
	}
	if _, err := os.Stat(other); err != nil {
		t.Error("what is not a blob was removed:", err)
	}
}
