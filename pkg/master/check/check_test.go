package check

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/masterd/masterd/pkg/master/config"
)

// What others than root could exchange is said, each with its key, and nothing else.
func TestCheckTrust(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to make files of another user")
	}
	const stranger = 54321
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	program, err := os.ReadFile("/bin/sh")
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"root/conf": "", "root/shop": string(program), "root/app.py": "", "root/hook": "",
		"other/conf": "", "other/shop": string(program), "other/app.py": "", "other/hook": "", "other/run.sh": "#!/bin/sh\n",
	} {
		if err := errors.Join(os.MkdirAll(filepath.Dir(at(name)), 0o755), os.WriteFile(at(name), []byte(text), 0o755)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chown(at("other"), stranger, stranger); err != nil {
		t.Fatal(err)
	}
	good := func() *config.Config {
		return &config.Config{File: at("root/conf"), Worker: config.Worker{
			User: "nobody", Command: []string{at("root/shop"), "app.py", "--mode", "prod"}, Directory: at("root"),
		}, Rollout: config.Rollout{Hooks: config.Hooks{Before: [][]string{{"/bin/sh", at("root/hook")}}}}}
	}
	if w := Trust(good()); len(w) > 0 {
		t.Errorf("nothing is wrong: %v", w)
	}
	for name, c := range map[string]struct {
		change func(*config.Config)
		want   string
	}{
		"root":          {func(c *config.Config) { c.Worker.User = "" }, "worker.user: workers run as root"},
		"configuration": {func(c *config.Config) { c.File = at("other/conf") }, "the configuration: others could exchange " + at("other/conf")},
		"program":       {func(c *config.Config) { c.Worker.Command[0] = at("other/shop") }, "worker.command: others could exchange " + at("other/shop") + ": " + at("other") + " belongs to uid 54321"},
		"pinned":        {func(c *config.Config) { c.Worker.Command[0] = at("other/shop") }, "its pinned copy is run"},
		"script":        {func(c *config.Config) { c.Worker.Command[0] = at("other/run.sh") }, "another program run"},
		"argument":      {func(c *config.Config) { c.Worker.Command[1] = at("other/app.py") }, "worker.command: others could exchange " + at("other/app.py")},
		"beside": {func(c *config.Config) {
			c.Worker.Command = []string{"/bin/sh", "app.py"}
			c.Worker.Directory = at("other")
		},
			"worker.command: others could exchange " + at("other/app.py")},
		"hook":    {func(c *config.Config) { c.Rollout.Hooks.Failed = [][]string{{at("other/hook")}} }, "rollout.hooks.failed: others could exchange"},
		"hook's":  {func(c *config.Config) { c.Rollout.Hooks.After = [][]string{{"/bin/sh", at("other/hook")}} }, "rollout.hooks.after: others could exchange"},
		"require": {func(c *config.Config) { c.Rollout.Require.Commands = [][]string{{at("other/hook")}} }, "rollout.require.commands: "},
		"health":  {func(c *config.Config) { c.Health.Command = []string{at("other/hook")} }, "health.command: "},
		"drain":   {func(c *config.Config) { c.Drain.Command = []string{at("other/hook")} }, "drain.command: "},
	} {
		cfg := good()
		c.change(cfg)
		if w := Trust(cfg); len(w) != 1 || !strings.Contains(w[0], c.want) {
			t.Errorf("%s: %q; want %q", name, w, c.want)
		}
	}
	rooted := good()
	rooted.Worker.User, rooted.Worker.Directory = "", at("other")
	if w := Trust(rooted); len(w) != 3 || !strings.Contains(w[2], "worker.directory: ") { // and app.py in it
		t.Errorf("where root's workers are: %q", w)
	}
	allow := good()
	allow.Versions.Allow = []string{at("other")}
	if w := Trust(allow); len(w) > 0 {
		t.Errorf("who may install what runs as nobody: %v", w)
	}
	allow.Worker.User = ""
	if w := Trust(allow); len(w) != 2 || !strings.Contains(w[1], "versions.allow: ") {
		t.Errorf("who may install what runs as root: %v", w)
	}
}
