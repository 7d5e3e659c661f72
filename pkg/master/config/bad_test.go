package config

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var rewrite = flag.Bool("update", false, "write golden files instead of comparing with them")

// golden compares with a file, or writes it.
func golden(t *testing.T, path string, got []byte) {
	t.Helper()
	if *rewrite {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v; go test -update makes it", err)
	}
	if string(got) != string(want) {
		t.Errorf("%s is not what it should be (go test -update makes it so, if it should):\n got:\n%s\nwant:\n%s", path, got, want)
	}
}

// fakeHost has the users and groups www-data and adm, and gunicorn in its PATH.
func fakeHost() Host {
	account := func(kind string) func(string) error {
		return func(name string) error {
			if name != "www-data" && name != "adm" {
				return errors.New("there is no " + kind + " \"" + name + "\"")
			}
			return nil
		}
	}
	return Host{
		Root: true, Temp: "/tmp", User: account("user"), Group: account("group"),
		Program: func(name string) (string, error) {
			if name != "gunicorn" {
				return "", os.ErrNotExist
			}
			return "/usr/bin/gunicorn", nil
		},
	}
}

// directives are comments in a test file's first line: "# host: ordinary" has
// it parsed for an ordinary user, "# env: A=b C=d" with these variables.
func directives(text string) (env []string, host Host) {
	host = fakeHost()
	line, _, _ := strings.Cut(text, "\n")
	if rest, ok := strings.CutPrefix(line, "# env: "); ok {
		env = strings.Fields(rest)
	}
	if line == "# host: ordinary" {
		host.Root, host.UID, host.Home, host.Runtime = false, 1000, "/home/ann", "/run/user/1000"
	}
	return env, host
}

// ofParsers are words of the parsers' and not of an operator's.
var ofParsers = []string{"yaml: line", "unmarshal", "viper", "did not find expected", "could not find", "mapping values", "!!", "scalar", "cannot decode", "strconv"}

// Each file in testdata/bad is wrong in some way, as people write it who know nginx, supervisord,
// systemd, docker compose, Kubernetes or PM2. The .txt beside it is what the operator is told.
func TestBadFiles(t *testing.T) {
	files, err := filepath.Glob("testdata/bad/*.yaml")
	if err != nil || len(files) < 200 {
		t.Fatalf("%d bad files, %v", len(files), err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".yaml")
		t.Run(name, func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			env, host := directives(string(data))
			c, err := Parse("/etc/masterd/"+name+".yaml", data, env, host)
			if err == nil {
				t.Fatalf("accepted:\n%s", Effective(c))
			}
			var problems *Problems
			if !errors.As(err, &problems) || len(problems.List) == 0 || c != nil {
				t.Fatalf("%T %v with %v", err, err, c)
			}
			got := strings.ReplaceAll(err.Error(), "/etc/masterd/", "") + "\n"
			for _, word := range ofParsers {
				if strings.Contains(got, word) {
					t.Errorf("it speaks as a parser (%s): %s", word, got)
				}
			}
			golden(t, strings.TrimSuffix(file, ".yaml")+".txt", []byte(got))
		})
	}
}
