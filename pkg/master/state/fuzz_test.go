package state

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/masterd/masterd/pkg/master/rollout"
)

// put writes a file over, whole: each time of a fuzz test has its own content.
func put(t *testing.T, path string, text []byte) {
	t.Helper()
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

// seeds are the files of earlier masterds.
func seeds(f *testing.F) {
	files, err := filepath.Glob("testdata/*.json")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Add([]byte(`{"schema":1}`))
	f.Add([]byte(`{"schema":2}`))
	f.Add([]byte(`{"schema":1,"next_generation":18446744073709551615,"active":{"id":"a"},"kept":[{}]}`))
	f.Add([]byte(`{"schema":1,"runtime_dir":"/run/masterd"}` + "\x00\x00"))
}

// A state that was read is read again as it was after it was saved; any other is an
// error that says so, or the one before it.
func FuzzLoad(f *testing.F) {
	seeds(f)
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, text []byte) {
		put(t, filepath.Join(dir, fileName), text)
		_ = os.Remove(filepath.Join(dir, prevName))
		s, err := Load(dir)
		if err != nil {
			var newer *NewerError
			var damaged *DamagedError
			if !errors.As(err, &newer) && !errors.As(err, &damaged) || !reflect.DeepEqual(s, rollout.State{}) {
				t.Fatalf("%+v, %T %v", s, err, err)
			}
			return
		}
		if err := Save(dir, s); err != nil {
			return // it is too long
		}
		if again, err := Load(dir); err != nil || !reflect.DeepEqual(again, s) {
			t.Errorf("%+v is read again as %+v, %v", s, again, err)
		}
	})
}

// What runs is read again as it was written.
func FuzzLoadLive(f *testing.F) {
	seeds(f)
	f.Add([]byte(`{"schema":1,"boot":"","workers":[{"pid":1,"secret":"x"}],"configs":[{"digest":"../x"}]}`))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, text []byte) {
		put(t, filepath.Join(dir, liveName), text)
		l, err := LoadLive(dir, "")
		if err != nil || l == nil {
			return
		}
		if len(l.Workers) > 0 {
			_, _ = LoadConfig(dir, string(text[:min(len(text), 64)]))
		}
		encoded, err := l.Encode()
		if err != nil {
			t.Fatal(err)
		}
		put(t, filepath.Join(dir, liveName), encoded)
		again, err := LoadLive(dir, "")
		if err != nil || again == nil {
			t.Fatalf("%s: %v", encoded, err)
		}
		if twice, err := again.Encode(); err != nil || string(twice) != string(encoded) {
			t.Errorf("%s became %s, %v", encoded, twice, err)
		}
	})
}

// An entry of the index names an absolute directory, or is none.
func FuzzEntry(f *testing.F) {
	seeds(f)
	path := filepath.Join(f.TempDir(), "entry.json")
	f.Fuzz(func(t *testing.T, text []byte) {
		put(t, path, text)
		if e, err := readEntry(path); err == nil && !filepath.IsAbs(e.RuntimeDir) {
			t.Errorf("%+v", e)
		}
	})
}
