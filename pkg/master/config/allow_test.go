package config

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What an operator may have run, and what it only seems to be.
func TestMayRun(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	at := func(p string) string { return filepath.Join(dir, p) }
	for _, p := range []string{"releases/1/bin", "releases/2/bin", "releases-old", "secret"} {
		if err := os.MkdirAll(at(p), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, p := range []string{"releases/1/bin/shop", "releases/1/bin/tool", "releases/2/bin/shop", "releases-old/shop", "secret/x"} {
		if err := os.WriteFile(at(p), []byte("x"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(
		os.Symlink("releases/1", at("current")), os.Symlink("../../../secret/x", at("releases/1/bin/out")),
		os.Symlink("../../../secret/gone", at("releases/1/bin/dangling")), os.Symlink("../../2/bin/shop", at("releases/1/bin/next")),
		os.Symlink("../secret", at("releases/away")),
	); err != nil {
		t.Fatal(err)
	}
	releases := []string{at("releases")}
	for _, c := range []struct {
		configured string
		allow      []string
		program    string
		may        bool
	}{
		{"current/bin/shop", nil, "current/bin/tool", true},
		{"current/bin/shop", nil, "releases/1/bin/tool", true},
		{"current/bin/shop", nil, "releases/2/bin/shop", false},
		{"current/bin/shop", nil, "current/bin/next", false},
		{"current/bin/shop", nil, "current/bin/../../../secret/x", false},
		{"current/bin/shop", nil, "releases", false},
		{"current/bin/shop", nil, "current/bin/shop", true},
		{"current/bin/shop", releases, "releases/2/bin/shop", true},
		{"current/bin/shop", releases, "releases/1/bin/next", true},
		{"current/bin/shop", releases, "releases/1/bin/out", false},
		{"current/bin/shop", releases, "releases/away/x", false},
		{"current/bin/shop", releases, "releases-old/shop", false},
		{"current/bin/shop", releases, "secret/x", false},
		{"current/bin/shop", []string{at("none")}, "none/x", false},
		{"secret/x", releases, "secret/x", true},
		{"/usr/bin/python3", nil, "/usr/bin/env", false},
		{"/usr/bin/python3", []string{"/usr/bin"}, "/usr/bin/env", true},
		{"/usr/bin/python3", nil, "/usr/bin/python3", true},
		{"", nil, "secret/x", false},
	} {
		abs := func(p string) string {
			if p == "" || filepath.IsAbs(p) {
				return p
			}
			return dir + "/" + p
		}
		cfg := &Config{Worker: Worker{Command: []string{abs(c.configured)}}, Versions: Versions{Allow: c.allow}}
		if err := cfg.MayRun(abs(c.program)); (err == nil) != c.may {
			t.Errorf("%+v: %v", c, err)
		}
	}
	// Of what is elsewhere it is not told whether it is there.
	cfg := &Config{Worker: Worker{Command: []string{at("current/bin/shop")}}}
	for there, gone := range map[string]string{"secret/x": "secret/y", "current/bin/out": "current/bin/dangling"} {
		a, b := cfg.MayRun(at(there)), cfg.MayRun(at(gone))
		if a == nil || b == nil || strings.ReplaceAll(a.Error(), there, "") != strings.ReplaceAll(b.Error(), gone, "") {
			t.Errorf("%v; %v", a, b)
		}
	}
}
