package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// inDirectory has the command line run in a directory of its own, as an ordinary user, with a
// program of that name in it.
func inDirectory(t *testing.T, program string) *cli {
	t.Helper()
	c := newCLI(t)
	c.uid = 1000
	dir := filepath.Join(c.dir, "shop")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir)
	if err := os.WriteFile(program, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return c
}

func written(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// Without a terminal nothing is asked, and nothing is started; what is written passes check.
func TestInitAsksNobody(t *testing.T) {
	c := inDirectory(t, "app")
	code, out, errs := c.run("init", "--", "./app", "--port", "29000")
	if code != 0 || errs != "" || !strings.Contains(out, "masterd run --config masterd.yaml") {
		t.Fatalf("exit %d\n%s%s", code, out, errs)
	}
	text := written(t, "masterd.yaml")
	for _, line := range []string{"service: app", `address: "tcp://127.0.0.1:29000"`, `command: ["./app", "--port", "29000"]`, "health: {tcp: {}}"} {
		if !strings.Contains(text, line) {
			t.Errorf("there is no %s in\n%s", line, text)
		}
	}
	if code, _, errs := c.run("check", "--config", "masterd.yaml"); code != 0 {
		t.Errorf("check: exit %d\n%s", code, errs)
	}
	// A file that is there stays.
	c.want(exitFailed, "", "masterd: masterd.yaml is there already, and stays as it is; name another file with --out\n", "init", "--", "./app")
	if written(t, "masterd.yaml") != text {
		t.Error("it was written over")
	}
	if code, _, errs := c.run("init", "--out", "other.yaml", "--listen", "8081", "--", "./app"); code != 0 || !strings.Contains(written(t, "other.yaml"), `"tcp://:8081"`) {
		t.Errorf("exit %d\n%s", code, errs)
	}
}

// On a terminal at most three questions are asked, and what is answered is written.
func TestInitAsks(t *testing.T) {
	c := inDirectory(t, "app")
	c.answers = []string{"n", ":29001", "/well"}
	code, out, errs := c.run("init", "--", "./app")
	text := written(t, "masterd.yaml")
	if code != 0 || !strings.Contains(text, `"tcp://:29001"`) || !strings.Contains(text, "{path: /well}") {
		t.Errorf("exit %d\n%s%s\n%s", code, out, errs, text)
	}
	want := "Start it once, for at most 15 s, to see where it listens and what it answers? Its start may change things, such as migrate a database [no]: " +
		"On which address do clients reach it? \"none\": on none, as consumers and jobs [127.0.0.1:8080]: " +
		"Which path answers 200 when it is well, such as /healthz? Empty: it need only take a connection: "
	if errs != want {
		t.Errorf("it asked\n%s", errs)
	}
	// Who only types return gets what is likely.
	c.answers = []string{"", "", ""}
	if code, _, errs := c.run("init", "--out", "b.yaml", "--", "./app"); code != 0 || !strings.Contains(written(t, "b.yaml"), `"tcp://127.0.0.1:8080"`) {
		t.Errorf("exit %d\n%s", code, errs)
	}
	// Root is asked for a user, and never whether the program may be started.
	c.uid, c.answers = 0, []string{"nobody", "none"}
	code, _, errs = c.run("init", "--out", "c.yaml", "--", "./app")
	if text := written(t, "c.yaml"); code != 0 || strings.Contains(errs, "Start it") || !strings.Contains(text, "user: nobody") || !strings.Contains(text, "listeners: []") {
		t.Errorf("exit %d\n%s\n%s", code, errs, text)
	}
	c.answers = []string{"nobody-of-this-name"}
	if code, _, errs := c.run("init", "--out", "d.yaml", "--", "./app"); code != exitUsage || !strings.Contains(errs, "there is no user") {
		t.Errorf("exit %d\n%s", code, errs)
	}
	if _, err := os.Stat("d.yaml"); err == nil {
		t.Error("a configuration was written for a user that there is none of")
	}
}

// What is typed wrongly is answered with what to type.
func TestInitHelps(t *testing.T) {
	c := inDirectory(t, "app")
	for want, args := range map[string][]string{
		"masterd: write -- before the command: masterd init -- ./app\nTry \"masterd init --help\".\n":                                                               {"init", "./app"},
		"masterd: write -- before the command: masterd run -- ./app\nTry \"masterd run --help\".\n":                                                                 {"run", "./app"},
		"masterd: app is not in PATH; the one in this directory is ./app\n":                                                                                         {"init", "--", "app"},
		"masterd: --listen: \"nonsense\" is no address; write :8080, 127.0.0.1:8080 or unix:///run/shop.sock\n":                                                     {"init", "--listen", "nonsense", "--", "./app"},
		"masterd: --listen is for a command after --; a configuration has its listeners\n":                                                                          {"run", "--listen", ":80"},
		"masterd: --config names a configuration, and a command after -- is run without one; leave one of them out\n":                                               {"run", "--config", "x", "--", "./app"},
		"masterd: name the program, as you would start it: masterd init -- ./shop --mode=prod (this directory has no go.mod, package.json or Procfile that says)\n": {"init"},
	} {
		c.want(exitUsage, "", want, args...)
	}
	for name, text := range map[string]string{"Procfile": "web: ./app\n", "package.json": `{"scripts":{"start":"./app --port 29002"}}`} {
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	c.want(exitUsage, "", "masterd: this directory runs several things; type one of\n"+
		"  masterd init -- ./app --port 29002   # scripts.start of package.json\n"+
		"  masterd init -- ./app   # web of Procfile\n", "init")
	if err := os.Remove("Procfile"); err != nil {
		t.Fatal(err)
	}
	if code, _, errs := c.run("init"); code != 0 || errs != "masterd: taking ./app --port 29002, scripts.start of package.json\n" {
		t.Errorf("exit %d\n%s", code, errs)
	}
	if err := os.Rename("masterd.yaml", "old.yaml"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile("package.json", []byte("{}"), 0o644); err != nil {
		t.Fatal(err)
	}
	c.want(exitUsage, "", "masterd: what this directory runs is not clear: package.json is here, and has no scripts.start\n", "init")
}
