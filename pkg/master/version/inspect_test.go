package version

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestModes(t *testing.T) {
	f := setup(t)
	at := func(name string) string { return filepath.Join(f.root, name) }
	place(t, at("bin/static"), elfFile("", ""))
	place(t, at("bin/system-libraries"), elfFile("/usr/lib/shop", ""))
	place(t, at("jvm/bin/launch"), elfFile("$ORIGIN/../lib", ""))
	place(t, at("jvm/bin/launch2"), elfFile("/usr/lib:${ORIGIN}", ""))
	place(t, at("bin/script"), []byte("#!/bin/sh\nexit 0\n"))
	place(t, at("bin/strange"), []byte("what is this"))
	place(t, at("bin/python3.12"), elfFile("", ""))
	place(t, at("venv/bin/serve"), elfFile("", ""))
	place(t, at("venv/pyvenv.cfg"), nil)
	place(t, at("bin/setuid"), elfFile("", ""))
	if err := os.Chmod(at("bin/setuid"), 0o755|os.ModeSetuid); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(at("bin/python3.12"), at("venv/bin/python")); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		program, mode  string // mode asked for
		want, why      string
		besideResolved string
	}{
		{"bin/static", "", ModeCopy, "self-contained", ""},
		{"bin/static", ModeAuto, ModeCopy, "self-contained", ""},
		{"bin/static", ModePath, ModePath, "as configured", ""},
		{"bin/static", ModeCopy, ModeCopy, "as configured", ""},
		{"bin/system-libraries", "", ModeCopy, "self-contained", ""},
		{"jvm/bin/launch", "", ModePath, "$ORIGIN/../lib", ""},
		{"jvm/bin/launch2", "", ModePath, "${ORIGIN}", ""},
		{"jvm/bin/launch", ModeCopy, ModeCopy, "although it looks for its libraries", ""},
		{"bin/script", "", ModePath, "script", ""},
		{"bin/strange", "", ModePath, "neither", ""},
		{"bin/python3.12", "", ModePath, "interpreter", ""},
		{"venv/bin/serve", "", ModePath, "virtual environment", ""},
		{"venv/bin/python", "", ModePath, "virtual environment", "venv/bin/python"},
		{"bin/setuid", "", ModePath, "setuid", ""},
	} {
		src := Source{Program: at(test.program), Args: []string{"x"}, Dir: f.root, Mode: test.mode}
		c, err := Inspect(src)
		if err != nil || c.Mode != test.want || !strings.Contains(c.Why, test.why) {
			t.Errorf("%s, %q: %+v, %v", test.program, test.mode, c, err)
		}
		if test.besideResolved != "" && c.Resolved != at(test.besideResolved) {
			t.Errorf("%s is resolved to %s", test.program, c.Resolved)
		}
		if v := f.pin(src); v.Mode != test.want || v.Why != c.Why {
			t.Errorf("%s: Pin says %s, %q", test.program, v.Mode, v.Why)
		}
	}
	src := Source{Program: at("bin/static"), Args: []string{"x"}, Dir: f.root, LooksBeside: true}
	if c, err := Inspect(src); err != nil || c.Mode != ModePath || !strings.Contains(c.Why, "beside") {
		t.Errorf("looks beside: %+v, %v", c, err)
	}
	src = Source{Program: at("bin/setuid"), Args: []string{"x"}, Dir: f.root, Mode: ModeCopy}
	if _, err := Inspect(src); err == nil || !strings.Contains(err.Error(), "setuid") {
		t.Errorf("a copy of a setuid program: %v", err)
	}
}

func TestInterpreters(t *testing.T) {
	for name, want := range map[string]bool{
		"python": true, "python3": true, "python3.12": true, "php8.2": true, "node": true, "node-20": true, "bash": true,
		"shop": false, "python-server": false, "nodeexporter": false, "shop-2.0": false, "3": false, "": false,
	} {
		if interpreter(name) != want {
			t.Errorf("%q: %v", name, !want)
		}
	}
}
