package watch

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/fsnotify/fsnotify"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

const (
	settle  = 30 * time.Millisecond
	patient = 30 * time.Second // far more than any of this takes
)

// world is a directory, a Watcher of files in it and what it told.
type world struct {
	t       *testing.T
	dir     string
	w       *Watcher
	changes chan Change
	logs    *observer.ObservedLogs
}

// watching makes the files given as name and content, and watches those that
// are named before the first "|" (all when there is none).
func watching(t *testing.T, o Options, files ...string) *world {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	core, logs := observer.New(zap.DebugLevel)
	h := &world{t: t, dir: dir, changes: make(chan Change, 100), logs: logs}
	for _, f := range files {
		o.Files = append(o.Files, h.path(f))
	}
	if o.Settle == 0 {
		o.Settle = settle
	}
	o.Log = zap.New(core)
	o.Changed = func(c Change) { h.changes <- c }
	if h.w, err = Open(o); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.w.Close)
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

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
}

// expect waits for one change, of these files, whose contents are now so.
func (h *world) expect(files map[string]string) {
	h.t.Helper()
	select {
	case c := <-h.changes:
		if len(c.Files) != len(files) || len(c.Digests) != len(files) {
			h.t.Fatalf("changed: %v, want %v", c, files)
		}
		for name, text := range files {
			sum := sha256.Sum256([]byte(text))
			if !slices.Contains(c.Files, h.path(name)) || c.Digests[h.path(name)] != hex.EncodeToString(sum[:]) {
				h.t.Fatalf("changed: %v, want %v", c, files)
			}
		}
	case <-time.After(patient):
		h.t.Fatalf("nothing was told; logs: %v", h.logs.All())
	}
}

// quiet sees that nothing else was told. It needs no waiting: another change,
// made now, comes to rest after whatever was pending.
func (h *world) quiet(file string) {
	h.t.Helper()
	write(h.t, h.path(file), "the end")
	h.expect(map[string]string{file: "the end"})
}

// looked waits until the Watcher saw that nothing changed.
func (h *world) looked() {
	h.t.Helper()
	deadline := time.Now().Add(patient)
	for h.logs.FilterMessageSnippet("hold what they held").Len() == 0 {
		if time.Now().After(deadline) {
			h.t.Fatalf("it never looked; logs: %v", h.logs.All())
		}
		select {
		case c := <-h.changes:
			h.t.Fatalf("changed: %v", c)
		case <-time.After(time.Millisecond):
		}
	}
}

// Each way in which people and programs save a file is one change.
func TestSaves(t *testing.T) {
	for name, save := range map[string]func(t *testing.T, path, text string){
		"in place": write,
		"in chunks": func(t *testing.T, path, text string) {
			f, err := os.OpenFile(path, os.O_WRONLY|os.O_TRUNC, 0)
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range text {
				if _, err := f.WriteString(string(c)); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Millisecond) // a slow writer is the case
			}
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
		},
		"vim": func(t *testing.T, path, text string) {
			// backupcopy=no: the old one is renamed away, a new one written in its place.
			if err := os.Rename(path, path+"~"); err != nil {
				t.Fatal(err)
			}
			write(t, path, text)
			if err := os.Remove(path + "~"); err != nil {
				t.Fatal(err)
			}
		},
		"rename over": func(t *testing.T, path, text string) {
			write(t, path+".tmp", text)
			if err := os.Rename(path+".tmp", path); err != nil {
				t.Fatal(err)
			}
		},
		"from elsewhere": func(t *testing.T, path, text string) {
			other := filepath.Join(t.TempDir(), "x")
			write(t, other, text)
			if err := os.Rename(other, path); err != nil {
				t.Skip(err)
			}
		},
		"removed and made anew": func(t *testing.T, path, text string) {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			write(t, path, text)
		},
		"hard link over": func(t *testing.T, path, text string) {
			write(t, path+".new", text)
			if err := os.Link(path+".new", path+".ln"); err != nil {
				t.Fatal(err)
			}
			if err := os.Rename(path+".ln", path); err != nil {
				t.Fatal(err)
			}
		},
		"same size and time": func(t *testing.T, path, text string) {
			st, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			write(t, path, text)
			if err := os.Chtimes(path, st.ModTime(), st.ModTime()); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := prepared(t, map[string]string{"a/shop": "version 1", "a/other": "x"}, nil)
			save(t, h.path("a/shop"), "version 2")
			h.expect(map[string]string{"a/shop": "version 2"})
			save(t, h.path("a/shop"), "version 3")
			h.expect(map[string]string{"a/shop": "version 3"})
			h.quiet("a/shop")
		})
	}
}

// prepared makes files and watches them, or those named.
func prepared(t *testing.T, files map[string]string, watched []string) *world {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range files {
		write(t, filepath.Join(dir, name), text)
		if watched == nil || len(watched) < len(files) && !slices.Contains(watched, name) && false {
			continue
		}
	}
	if watched == nil {
		for name := range files {
			watched = append(watched, name)
		}
	}
	return openIn(t, dir, Options{}, watched)
}

// openIn watches files in a directory.
func openIn(t *testing.T, dir string, o Options, watched []string) *world {
	t.Helper()
	core, logs := observer.New(zap.DebugLevel)
	h := &world{t: t, dir: dir, changes: make(chan Change, 100), logs: logs}
	for _, f := range watched {
		o.Files = append(o.Files, h.path(f))
	}
	if o.Settle == 0 {
		o.Settle = settle
	}
	o.Log = zap.New(core)
	o.Changed = func(c Change) { h.changes <- c }
	var err error
	if h.w, err = Open(o); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.w.Close)
	return h
}

var _ = errors.New
var _ = strings.Join
var _ sync.Mutex
var _ = syscall.EACCES
var _ fsnotify.Op
