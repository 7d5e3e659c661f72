package config

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

func TestLoadEnvFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.env")
	text := "# secrets\n\n  A=1\nexport B=two words \nexport\tC='it''s'\r\nD=\"a\\nb\\t\\\"\\\\\\$\" # why\nE=\nF=a#b\nG='$A \\n'\nH=$A\nA=2\nexportX=1\n"
	text = strings.Replace(text, "'it''s'", "'its'", 1)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	vars, err := LoadEnvFile(path)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"A=2", "B=two words", "C=its", "D=a\nb\t\"\\$", "E=", "F=a#b", `G=$A \n`, "H=$A", "exportX=1"}
	if !reflect.DeepEqual(vars, want) {
		t.Errorf("%q", vars)
	}
}

func TestBadEnvFiles(t *testing.T) {
	dir := t.TempDir()
	for text, want := range map[string]string{
		"A\n":                           ":1: not NAME=VALUE: there is no =",
		"\nA =hunter2":                  ":2: there is a space before the =",
		"A B=hunter2":                   `:1: "A B" is not the name of a variable`,
		"=hunter2":                      `:1: "" is not the name of a variable`,
		"A=hunter2 # x":                 ":1: is the # a comment or part of the value? put comments on lines of their own, or the value in quotes",
		"A='hunter2":                    ":1: the single quote is not closed on the same line",
		"A=\"hunter2\\\"":               ":1: the double quote is not closed on the same line",
		"A=\"hunter2\\":                 ":1: the double quote is not closed on the same line",
		"A=\"hunter2\\q\"":              `:1: \q has no meaning in double quotes; there are \n, \t, \", \\ and \$`,
		"A='hunter2'x":                  ":1: there is more after the closing quote",
		"A=hunter2\x00":                 ":1: the value of A has a NUL character",
		"A=hunter2\xff":                 ":1: the value of A is not valid UTF-8",
		"NOTIFY_SOCKET=/x":              ":1: NOTIFY_SOCKET is set by masterd itself, or kept from workers",
		"MASTERD_SECRET=hunter2":        ":1: MASTERD_SECRET is set by masterd itself, or kept from workers",
		"A=" + strings.Repeat("x", 1e5): ":1: the value of A has 100000 bytes, at most 65536 are allowed",
	} {
		path := filepath.Join(dir, "a.env")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := LoadEnvFile(path)
		if err == nil || err.Error() != "environment file "+path+want {
			t.Errorf("%.40q: %v", text, err)
		} else if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("a value is shown: %v", err)
		}
	}
	if _, err := LoadEnvFile(filepath.Join(dir, "none")); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Error(err)
	}
	if _, err := LoadEnvFile(dir); err == nil || !strings.Contains(err.Error(), "is a directory") {
		t.Error(err)
	}
}
