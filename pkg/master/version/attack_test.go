package version

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

const stranger = 54321

// openUp lets everybody through to the fixture: t.TempDir is ours alone.
func (f *fixture) openUp() {
	f.t.Helper()
	if err := os.Chmod(filepath.Dir(f.root), 0o711); err != nil {
		f.t.Fatal(err)
	}
	if err := (&User{UID: stranger, GID: stranger}).reach(f.root); err != nil {
		f.t.Skip(err)
	}
}

// What is executed is what was hashed, whoever exchanges the program in between.
func TestExchangedBeforeTheExec(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to make a directory of another user")
	}
	f := setup(t)
	f.openUp()
	src := f.program("shop", "good")
	bin := filepath.Dir(src.Program)
	if err := os.Chown(bin, stranger, stranger); err != nil {
		t.Fatal(err)
	}
	v := f.pin(src)
	good, evil := filepath.Join(bin, "good"), filepath.Join(bin, "evil")
	place(t, evil, elfFile("", "evil"))
	if err := os.Rename(src.Program, good); err != nil {
		t.Fatal(err)
	}
	end := make(chan struct{})
	var swapper sync.WaitGroup
	swapper.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-end:
				return
			default:
			}
			at := good
			if i%2 == 1 {
				at = evil
			}
			_ = os.Remove(src.Program)
			_ = os.Link(at, src.Program)
			time.Sleep(100 * time.Microsecond)
		}
	})
	other := 0
	for range 300 {
		path, err := f.ExecutableBy(t.Context(), v.ID, &User{UID: stranger, GID: stranger})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(50 * time.Microsecond) // as the shim takes
		if digest, _ := Digest(path); digest != v.Digest {
			other++
		}
	}
	close(end)
	swapper.Wait()
	if other > 0 {
		t.Errorf("%d of 300 times another program would have been executed", other)
	}
}

// The original is run only where nobody else could exchange it; its copy has its name.
func TestOthersCouldExchangeIt(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to make files of other users")
	}
	for name, test := range map[string]struct {
		give    func(dir, file string) error
		trusted bool
	}{
		"root's":            {func(_, _ string) error { return nil }, true},
		"the worker's file": {func(_, file string) error { return os.Chown(file, stranger, stranger) }, false},
		"in its directory":  {func(dir, _ string) error { return os.Chown(dir, stranger, stranger) }, false},
		"all may write it":  {func(_, file string) error { return os.Chmod(file, 0o757) }, false},
		"all may rename it": {func(dir, _ string) error { return os.Chmod(dir, 0o777) }, false},
		"a group's":         {func(dir, _ string) error { return errors.Join(os.Chown(dir, 0, stranger), os.Chmod(dir, 0o775)) }, false},
	} {
		f := setup(t)
		f.openUp()
		src := f.program("shop", "v1")
		watched := src
		watched.Mode = ModePath
		if err := test.give(filepath.Dir(src.Program), src.Program); err != nil {
			t.Fatal(err)
		}
		v, w := f.pin(src), f.pin(watched)
		want := src.Program
		if !test.trusted {
			want = v.Pinned
		}
		f.runs(v, want)
		f.runs(w, src.Program)
		for _, why := range []string{v.Why, w.Why} {
			if said := strings.Contains(why, "exchange"); said == test.trusted {
				t.Errorf("%s: %s", name, why)
			}
		}
		if filepath.Base(v.Pinned) != "shop" {
			t.Errorf("%s: ps would show %s", name, filepath.Base(v.Pinned))
		}
		f.open()
		f.runs(v, want)
		// A version of an earlier masterd may be what serves, and have files beside it.
		meta := filepath.Join(f.dir, v.ID, metaName)
		text, err := os.ReadFile(meta)
		if err != nil || !bytes.Contains(text, []byte(`"guarded": true`)) {
			t.Fatalf("%s %v", text, err)
		}
		if err := os.WriteFile(meta, bytes.Replace(text, []byte(`"guarded": true`), []byte(`"guarded": false`), 1), 0o600); err != nil {
			t.Fatal(err)
		}
		f.open()
		f.runs(v, src.Program)
		f.pin(src) // by this one
		f.open()
		f.runs(v, want)
	}
}

// A copy is no easier to read than its original, and the worker's group can run it.
func TestAsTightAsTheOriginal(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to be a master with workers of another user")
	}
	for name, test := range map[string]struct {
		dir, file fs.FileMode
		all       bool // may read the original
	}{
		"for all":               {0o755, 0o755, true},
		"its owner's":           {0o755, 0o700, false},
		"a group's":             {0o755, 0o750, false},
		"cannot be read":        {0o755, 0o711, false},
		"in a closed directory": {0o700, 0o755, false},
	} {
		f := setup(t)
		f.openUp()
		src := f.program("shop", "v1")
		if err := errors.Join(os.Chmod(src.Program, test.file), os.Chmod(filepath.Dir(src.Program), test.dir)); err != nil {
			t.Fatal(err)
		}
		v := f.pin(src)
		os.Remove(src.Program)
		modes := func(file, entry fs.FileMode, group int) {
			t.Helper()
			for path, want := range map[string]fs.FileMode{v.Pinned: file, filepath.Dir(v.Pinned): entry} {
				info, err := os.Stat(path)
				if err != nil || info.Mode().Perm() != want || groupOf(info) != group {
					t.Errorf("%s: %s: %v, group %d, %v; want %v, group %d", name, path, info.Mode(), groupOf(info), err, want, group)
				}
			}
		}
		one, other := &User{UID: stranger, GID: stranger}, &User{UID: stranger + 1, GID: stranger + 1}
		for _, by := range []*User{nil, one, other, one, {}} {
			if path, err := f.ExecutableBy(t.Context(), v.ID, by); err != nil || path != v.Pinned {
				t.Fatalf("%s: %s, %v", name, path, err)
			}
			switch {
			case test.all:
				modes(0o555, 0o711, 0)
			case by == nil || by.UID == 0:
				modes(0o500, 0o700, 0)
			default:
				modes(0o550, 0o710, by.GID)
			}
		}
		f.open() // what a master finds is no wider
		if path, err := f.ExecutableBy(t.Context(), v.ID, one); err != nil || path != v.Pinned {
			t.Errorf("%s: %s, %v", name, path, err)
		}
	}
}

// A program that is closed later has its copy closed by the next pin, and a copy for
// all is not given to one that is not.
func TestClosedLater(t *testing.T) {
	f := setup(t)
	f.openUp()
	src := f.program("shop", "v1")
	v := f.pin(src)
	os.Chmod(src.Program, 0o700)
	src.Label = "again"
	w := f.pin(src)
	src.Label = ""
	for id, want := range map[string]fs.FileMode{v.Pinned: 0o555, w.Pinned: 0o500} {
		if info, err := os.Stat(id); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v; want %v", id, info.Mode(), err, want)
		}
	}
	f.pin(src)
	if info, err := os.Stat(v.Pinned); err != nil || info.Mode().Perm() != 0o500 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}

func groupOf(info fs.FileInfo) int { return int(info.Sys().(*syscall.Stat_t).Gid) }
