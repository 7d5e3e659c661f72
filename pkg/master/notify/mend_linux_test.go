package notify

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// A worker whose socket was removed is heard by another one of the same name, and
// so is what it had said before.
func TestSocketsAreMadeAgain(t *testing.T) {
	h := hallOf(t, filepath.Join(t.TempDir(), "n"))
	path, err := h.Add(Worker{ID: 1, UID: os.Geteuid(), Hear: func(m Message, fds []int) { h.ear <- heard{m, fds} }})
	if err != nil {
		t.Fatal(err)
	}
	h.Begin(1, os.Getpid())
	if mended, err := h.Mend(); mended || err != nil {
		t.Fatalf("nothing was removed: %v, %v", mended, err)
	}
	want := func(status string) {
		t.Helper()
		select {
		case m := <-h.ear:
			if m.Status != status {
				t.Errorf("heard %+v, want the status %s", m, status)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("%s was not heard", status)
		}
	}
	for _, remove := range []func() error{
		func() error { return os.Remove(path) },
		func() error { return os.RemoveAll(filepath.Dir(path)) },
		func() error { // another thing in its place
			if err := os.Remove(path); err != nil {
				return err
			}
			return os.WriteFile(path, nil, 0o600)
		},
	} {
		if err := send(path, "STATUS=before"); err != nil {
			t.Fatal(err)
		}
		if err := remove(); err != nil {
			t.Fatal(err)
		}
		if mended, err := h.Mend(); !mended || err != nil {
			t.Fatalf("%v, %v", mended, err)
		}
		want("before")
		if err := send(path, "STATUS=after"); err != nil {
			t.Fatal(err)
		}
		want("after")
	}
	h.kept.Check()
	if got := h.kept.Names(); len(got) != 1 {
		t.Errorf("the keeper holds %q", got)
	}
	h.Forget(1)
	if _, err := os.Lstat(path); err == nil {
		t.Error("the socket is left")
	}
	h.Close()
	if err := os.RemoveAll(filepath.Dir(path)); err != nil {
		t.Fatal(err)
	}
	if mended, err := h.Mend(); mended || err != nil {
		t.Errorf("after the end: %v, %v", mended, err)
	}
}
