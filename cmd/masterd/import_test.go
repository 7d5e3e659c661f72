package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/masterd/masterd/pkg/master/config"
)

func TestImport(t *testing.T) {
	c := newCLI(t)
	conf, out := filepath.Join(c.dir, "supervisord.conf"), filepath.Join(c.dir, "out")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}

	write("[program:cat]\ncommand=/bin/cat -u\nstopwaitsecs=3\n")
	c.want(0, "$DIR/out/cat.yaml\n", "", "import", conf, "--out", out)
	got, err := config.Load(filepath.Join(out, "cat.yaml"), nil)
	if err != nil || got.Service != "cat" || strings.Join(got.Worker.Command, " ") != "/bin/cat -u" || got.StopTimeout.Seconds() != 3 {
		t.Errorf("%+v, %v", got, err)
	}
	if info, err := os.Stat(filepath.Join(out, "cat.yaml")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}

	// Nothing is written over, and nothing is written at all then.
	write("[program:dog]\ncommand=/bin/cat\n[program:cat]\ncommand=/bin/cat\n")
	c.want(1, "", "masterd: $DIR/out/cat.yaml is there already; nothing was written. Remove it, or name another directory with --out\n", "import", conf, "--out", out)
	if _, err := os.Stat(filepath.Join(out, "dog.yaml")); err == nil {
		t.Error("dog.yaml was written")
	}

	// What is lost is told, and the exit code says so.
	write("[program:cat]\ncommand=/bin/cat\numask=077\n")
	code, stdout, stderr := c.run("import", conf)
	if code != 7 || !strings.HasPrefix(stdout, "--- # cat.yaml\n# cat of ") || !strings.Contains(stderr, "masterd: cat: umask: set UMask=077") {
		t.Errorf("exit %d\n%s%s", code, stdout, stderr)
	}

	for text, want := range map[string]string{
		"":                  "there is no [program:NAME] in it",
		"[program:x\n":      "supervisord.conf",
		"command=/bin/cat":  `"command" stands before the first [section]`,
		"[a]\nno delimiter": "supervisord.conf",
	} {
		write(text)
		if code, stdout, stderr := c.run("import", conf); code != 2 || stdout != "" || !strings.Contains(stderr, want) {
			t.Errorf("%q: exit %d\n%s%s", text, code, stdout, stderr)
		}
	}
	if code, _, stderr := c.run("import", filepath.Join(c.dir, "none")); code != 2 || !strings.Contains(stderr, "no such file") {
		t.Errorf("exit %d: %s", code, stderr)
	}
}

// A unit of systemd and its socket: what is written is what check takes, and what is lost is told.
func TestImportUnits(t *testing.T) {
	c := newCLI(t)
	write := func(name, text string) string {
		t.Helper()
		path := filepath.Join(c.dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	const unit = "[Service]\nType=notify\nExecStart=/bin/cat \\\n -u ${MODE} \"a b\"\nEnvironment=MODE=prod\nTimeoutStopSec=1min 30s\nKillSignal=SIGINT\nLimitNOFILE=4096\n"
	service := write("cat.service", unit)
	socket := write("cat.socket", "[Socket]\nListenStream=127.0.0.1:8080\nFileDescriptorName=web\n")
	out := filepath.Join(c.dir, "out")
	c.want(0, "$DIR/out/cat.yaml\n", "", "import", service, socket, "--out", out)
	file := filepath.Join(out, "cat.yaml")
	got, err := config.Load(file, nil)
	if err != nil || got.Service != "cat" || strings.Join(got.Worker.Command, "|") != "/bin/cat|-u|prod|a b" || got.Drain.Timeout.Seconds() != 90 ||
		got.Worker.StopSignal != "INT" || got.Worker.Ready != "notify" || got.Worker.Kind != config.KindSocketActivation || got.Listeners[0].Name != "web" {
		t.Errorf("%+v, %v", got, err)
	}
	if code, stdout, stderr := c.run("check", "--config", file); code != 0 {
		t.Errorf("exit %d\n%s%s", code, stdout, stderr)
	}

	// Its socket is told of, a key that is lost is in the file and on standard error.
	write("cat.service", unit+"UMask=077\nRequires=x\n[Unit]\nRequires=cat.socket\n")
	code, stdout, stderr := c.run("import", service)
	for _, want := range []string{"masterd: cat: UMask: 077: set it in a drop-in", "masterd: cat: Sockets: its sockets are those of cat.socket: name that file, too"} {
		if code != 7 || !strings.Contains(stderr, want) || !strings.Contains(stdout, "# Not carried over: UMask: ") {
			t.Errorf("exit %d\n%s%s", code, stdout, stderr)
		}
	}
	write("cat.service", "[Service\n")
	if code, _, stderr := c.run("import", service, socket); code != 2 || !strings.Contains(stderr, "cat.service:1: ") {
		t.Errorf("exit %d: %s", code, stderr)
	}
	if code, _, stderr := c.run("import", socket, service); code != 2 || !strings.Contains(stderr, "UNIT.service UNIT.socket") {
		t.Errorf("exit %d: %s", code, stderr)
	}
}

func TestSweepIsForUnits(t *testing.T) {
	c := newCLI(t)
	if code, _, stderr := c.run("sweep"); code != 2 || !strings.Contains(stderr, "ExecStopPost=") {
		t.Errorf("exit %d: %s", code, stderr)
	}
	// Another master is to come.
	for _, end := range [][2]string{{"killed", "KILL"}, {"dumped", "ABRT"}, {"exited", "1"}, {"", ""}} {
		c.env["SERVICE_RESULT"], c.env["EXIT_CODE"], c.env["EXIT_STATUS"] = "signal", end[0], end[1]
		if code, _, stderr := c.run("sweep"); code != 0 || !strings.Contains(stderr, "left alone") {
			t.Errorf("%v: exit %d: %s", end, code, stderr)
		}
	}
}
