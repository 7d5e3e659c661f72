package watch

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

const (
	every   = 5 * time.Millisecond
	settle  = 30 * time.Millisecond
	patient = 20 * time.Second // far more than any of this takes
)

// What the Watcher logs is how tests see that it has looked.
const (
	watching = "watching files"
	heldSame = "watched files were touched, but hold what they held"
	writing  = "a watched file is still being written"
)

// world is a directory, a Watcher of files in it and what it told.
type world struct {
	t       *testing.T
	dir     string
	w       *Watcher
	changes chan Change
	logs    *observer.ObservedLogs
	opt     Options
}

// newWorld makes files, by name and content.
func newWorld(t *testing.T, files map[string]string) *world {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	core, logs := observer.New(zap.DebugLevel)
	h := &world{t: t, dir: dir, changes: make(chan Change, 100), logs: logs}
	h.opt = Options{Every: every, Settle: settle, Log: zap.New(core), Changed: func(c Change) { h.changes <- c }}
	for name, text := range files {
		h.write(name, text)
	}
	return h
}

// watch watches files of the world until the test ends.
func (h *world) watch(names ...string) *world {
	h.t.Helper()
	for _, n := range names {
		h.opt.Files = append(h.opt.Files, h.path(n))
	}
	var err error
	h.w, err = Open(h.opt)
	h.must(err)
	h.t.Cleanup(h.w.Close)
	return h
}

func (h *world) path(name string) string { return filepath.Join(h.dir, name) }

// must fails the test on an error of the file system.
func (h *world) must(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
}

func (h *world) write(name, text string) {
	h.t.Helper()
	h.must(os.MkdirAll(filepath.Dir(h.path(name)), 0o755))
	h.must(os.WriteFile(h.path(name), []byte(text), 0o755))
}

func (h *world) rename(from, to string) {
	h.t.Helper()
	h.must(os.Rename(h.path(from), h.path(to)))
}

func (h *world) symlink(target, name string) {
	h.t.Helper()
	h.must(os.Symlink(target, h.path(name)))
}

// flip points a symbolic link elsewhere as deployments do: at once.
func (h *world) flip(target, name string) {
	h.t.Helper()
	h.symlink(target, name+".new")
	h.rename(name+".new", name)
}

// expect waits for one change, of just these files, by name and content.
func (h *world) expect(files map[string]string) {
	h.t.Helper()
	select {
	case c := <-h.changes:
		if len(c.Files) != len(files) {
			h.t.Fatalf("changed: %v, want %v", c, files)
		}
		for name, text := range files {
			if is, err := os.ReadFile(h.path(name)); err != nil || string(is) != text || !slices.Contains(c.Files, h.path(name)) {
				h.t.Fatalf("changed: %v, want %v", c, files)
			}
		}
	case <-time.After(patient):
		h.t.Fatalf("nothing was told; logs: %v", h.logs.All())
	}
}

// quiet sees that nothing more is told. Another change, made now, comes to
// rest after whatever was pending, so there is nothing to wait for.
func (h *world) quiet(name string) {
	h.t.Helper()
	h.write(name, "the end")
	h.expect(map[string]string{name: "the end"})
}

// logged waits until the Watcher has logged a message so many times.
func (h *world) logged(message string, times int) {
	h.t.Helper()
	deadline := time.Now().Add(patient)
	for h.logs.FilterMessage(message).Len() < times {
		if time.Now().After(deadline) {
			h.t.Fatalf("not logged: %s; but %v", message, h.logs.All())
		}
		select {
		case c := <-h.changes:
			h.t.Fatalf("changed: %v", c)
		case <-time.After(time.Millisecond):
		}
	}
}
