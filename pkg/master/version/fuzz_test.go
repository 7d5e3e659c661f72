package version

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var someDigest = digestScheme + strings.Repeat("a", 64)

// A store's entry is believed only if it is what its name says; and what was read is
// written the same.
func FuzzRecord(f *testing.F) {
	r := record{Schema: metaSchema, Mode: ModePath, Digest: someDigest, Args: []string{"x"}, Env: map[string]string{"A": "b"}}
	r.ID = r.identity()
	text, err := r.encode()
	if err != nil {
		f.Fatal(err)
	}
	id := r.ID
	f.Add(text)
	f.Add([]byte(`{"schema":1,"id":"` + id + `"}`))
	f.Add([]byte(`{"schema":2}`))
	store := f.TempDir()
	if err := os.Mkdir(filepath.Join(store, id), 0o700); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		if err := os.WriteFile(filepath.Join(store, id, metaName), text, 0o600); err != nil {
			t.Fatal(err)
		}
		r, err := readRecord(store, id)
		if err != nil {
			return
		}
		if r.ID != id || r.identity() != id || len(r.Args) == 0 || !validDigest(r.Digest) {
			t.Errorf("%+v", r)
		}
		if r.version(store).ID != id {
			t.Errorf("%+v", r.version(store))
		}
		if _, err := r.encode(); err != nil && len(text) < maxMeta/8 {
			t.Error(err)
		}
	})
}

// A program may be anything: it is looked at, its build is compared with another's, and
// its label is one that can be shown.
func FuzzProgram(f *testing.F) {
	f.Add(elfFile("$ORIGIN/lib", "text"), "go\tgo1.26\nmod\tm\tv1\nbuild\tvcs.revision=abc\n")
	f.Add([]byte("#!/bin/sh\n"), "go\t\ndep\n=>\n")
	f.Add([]byte("\x7fELF"), "build\t=\n")
	path := filepath.Join(f.TempDir(), "program")
	f.Fuzz(func(t *testing.T, program []byte, build string) {
		if err := os.WriteFile(path, program, 0o755); err != nil {
			t.Fatal(err)
		}
		file, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		_ = obstacle(Source{Program: path, Dir: "/", Args: []string{path}}, path, file)
		if label := labelOf(readBuild(file), someDigest); label == "" || checkLabel(label) != nil {
			t.Errorf("%q", label)
		}
		if label := labelOf(parseBuild(build), someDigest); label == "" || checkLabel(label) != nil {
			t.Errorf("%q", label)
		}
		var same difference
		if same.builds(build, build); len(same.changes) != 0 {
			t.Errorf("%q differs from itself: %v", build, same.changes)
		}
	})
}
