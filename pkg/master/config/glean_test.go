package config

import (
	"os"
	"path/filepath"
	"testing"
)

func TestGlean(t *testing.T) {
	for text, want := range map[string][3]string{
		"service: shop\nruntime_dir: /run/x\nstate_dir: state # here\nrolout: 1\n": {"shop", "/run/x", "/etc/m/state"},
		"{{{\nservice: \"shop\"\n  runtime_dir: /nested\n":                         {"shop", "", ""},
		"service: [a]\nruntime_dir: {b: c}\nstate_dir:\n":                          {"", "", ""},
		"service: ../shop\nruntime_dir: ../run\n":                                  {"", "/etc/run", ""},
		"": {"", "", ""},
	} {
		service, run, state := Glean("/etc/m/x.yaml", []byte(text))
		if got := [3]string{service, run, state}; got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

// A directory is in use if a master has left something there, and nobody else
// could have.
func TestInUse(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "base", "shop")
	if err := os.MkdirAll(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	is := func(want bool, why string) {
		t.Helper()
		if got := inUse(dir, os.Geteuid()); got != want {
			t.Errorf("%s: %v", why, got)
		}
	}
	is(false, "empty")
	if err := os.WriteFile(filepath.Join(dir, "live.json"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	is(true, "left")
	if inUse(dir, os.Geteuid()+1) {
		t.Error("of another user")
	}
	_ = os.Chmod(filepath.Dir(dir), 0o777)
	is(false, "where everybody can write")
}

// A directory can be made in the nearest one that is there, if that is one.
func TestMakeable(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]bool{
		dir: true, filepath.Join(dir, "a", "b"): true, filepath.Join(dir, "file"): false,
		filepath.Join(dir, "file", "a"): false,
	} {
		if got := makeable(path); got != want {
			t.Errorf("%s: %v", path, got)
		}
	}
}

// What is gleaned from a file is there or is not; no file is too broken to be looked at.
func FuzzGlean(f *testing.F) {
	f.Add([]byte("service: shop\nruntime_dir: /run/x\nstate_dir: [\n"))
	f.Add([]byte("service: &a [*a]\n"))
	f.Add([]byte("\xff: ? {{"))
	f.Fuzz(func(t *testing.T, text []byte) {
		for _, found := range func() []string { a, b, c := Glean("/etc/m/x.yaml", text); return []string{a, b, c} }() {
			if len(found) > len("/etc/m/")+len(text) {
				t.Errorf("%q", found)
			}
		}
	})
}
