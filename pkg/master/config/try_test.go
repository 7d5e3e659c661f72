package config

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
)

// ready is a configuration of which everything exists, in a new directory.
func ready(t *testing.T) (*Config, string) {
	t.Helper()
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		if self, err = os.ReadFile(os.Args[0]); err != nil {
			t.Fatal(err)
		}
	}
	put(t, dir, "shop", string(self), 0o755)
	put(t, dir, "hook", "#!/bin/sh\n", 0o755)
	put(t, dir, "a.env", "A=1\n", 0o600)
	put(t, dir, "masterd.yaml", "", 0o644)
	return &Config{
		File: filepath.Join(dir, "masterd.yaml"), StateDir: filepath.Join(dir, "var/state"), RuntimeDir: filepath.Join(dir, "run"),
		Worker:    Worker{Command: []string{filepath.Join(dir, "shop")}, Directory: dir, Pin: "auto", EnvFiles: []string{filepath.Join(dir, "a.env")}},
		Rollout:   Rollout{Hooks: Hooks{Before: [][]string{{filepath.Join(dir, "hook"), "x"}}}},
		Listeners: []Listener{{Name: "a", Network: "unix", Path: filepath.Join(dir, "sock")}},
		Log:       Log{File: filepath.Join(dir, "log")},
	}, dir
}

func put(t *testing.T, dir, name, text string, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
	return path
}

// lines is all findings, one in a line.
func lines(all []Finding) string {
	var out []string
	for _, f := range all {
		out = append(out, f.String())
	}
	return strings.Join(out, "\n")
}

func TestTryFindsNothing(t *testing.T) {
	c, dir := ready(t)
	before := list(t, dir)
	if found := Try(c); len(found) > 0 {
		t.Errorf("%s", lines(found))
	}
	if after := list(t, dir); after != before {
		t.Errorf("it left something:\n%s\n%s", before, after)
	}
}

func list(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return strings.Join(names, " ")
}

func TestTryFinds(t *testing.T) {
	for name, test := range map[string]struct {
		spoil func(c *Config, dir string)
		want  string
	}{
		"a home directory":  {func(c *Config, dir string) { c.Worker.Command[0] = dir + "/~/bin/shop" }, "worker.command: the program DIR/~/bin/shop does not exist: there is no shell, so ~ is no home directory; write the whole path"},
		"one text":          {func(c *Config, dir string) { c.Worker.Command[0] = dir + "/shop --prod" }, `worker.command: the program DIR/shop --prod does not exist: each argument is an item of its own, ["/bin/shop", "--mode=prod"]`},
		"no program":        {func(c *Config, dir string) { c.Worker.Command[0] = dir + "/none" }, "worker.command: the program DIR/none does not exist"},
		"a directory":       {func(c *Config, dir string) { c.Worker.Command[0] = dir }, "worker.command: DIR is a directory, not a program"},
		"a device":          {func(c *Config, dir string) { c.Worker.Command[0] = "/dev/null" }, "worker.command: /dev/null is not a regular file"},
		"empty":             {func(c *Config, dir string) { put(t, dir, "shop", "", 0o755) }, "worker.command: the program DIR/shop is empty; was it still being written?"},
		"not executable":    {func(c *Config, dir string) { put(t, dir, "hook", "x", 0o644) }, "rollout.hooks.before: the master cannot run DIR/hook: its permissions (-rw-r--r--) do not allow it"},
		"not a program":     {func(c *Config, dir string) { put(t, dir, "shop", "hello, world", 0o755) }, "worker.command: DIR/shop is neither an executable nor a script that begins with #!"},
		"no interpreter":    {func(c *Config, dir string) { put(t, dir, "shop", "#!/no/sh -e\n", 0o755) }, "worker.command: the interpreter /no/sh of the script DIR/shop: no such file or directory"},
		"half written":      {func(c *Config, dir string) { put(t, dir, "shop", "\x7fELF\x02\x01\x01", 0o755) }, "worker.command: DIR/shop is a broken executable (was it still being written?)"},
		"no directory":      {func(c *Config, dir string) { c.Worker.Directory = dir + "/none" }, "worker.directory: DIR/none: no such file or directory"},
		"directory is file": {func(c *Config, dir string) { c.Worker.Directory = dir + "/shop" }, "worker.directory: DIR/shop is not a directory"},
		"state is file":     {func(c *Config, dir string) { c.StateDir = dir + "/shop" }, "state_dir: DIR/shop is not a directory"},
		"state below file":  {func(c *Config, dir string) { c.StateDir = dir + "/shop/x" }, "state_dir: DIR/shop/x cannot be looked at: not a directory"},
		"env file":          {func(c *Config, dir string) { put(t, dir, "a.env", "A\n", 0o600) }, "worker.env_files: environment file DIR/a.env:1: not NAME=VALUE: there is no ="},
		"readable env file": {func(c *Config, dir string) { put(t, dir, "a.env", "A=1\n", 0o644) }, "warning: worker.env_files: every user may read DIR/a.env; if it holds secrets, chmod o-r it"},
		"no hook":           {func(c *Config, dir string) { c.Rollout.Hooks.After = [][]string{{dir + "/none"}} }, "rollout.hooks.after: the program DIR/none: no such file or directory"},
		"no check":          {func(c *Config, dir string) { c.Health.Command = []string{dir} }, "health.command: DIR is not a program"},
		"open to all":       {func(c *Config, dir string) { put(t, dir, "masterd.yaml", "", 0o666) }, "warning: service: every user may change DIR/masterd.yaml, and with it what the master runs; chmod o-w it"},
		"one socket for all": {func(c *Config, dir string) {
			c.Worker.Kind, c.Listeners[0].Steering = KindUnmodified, "shared"
		}, "warning: listeners: listener a has steering: shared, so all versions hold the same socket: a process that a version has left behind takes clients of the next one, and workers of kind unmodified cannot be asked to pause; write auto. Its checks reach whichever worker accepts; use worker.ready: notify"},
		"no such user": {func(c *Config, dir string) { c.Worker.User = "no such user" }, `worker.user: there is no user "no such user"`},
	} {
		t.Run(name, func(t *testing.T) {
			if runtime.GOOS != "linux" && name == "not a program" {
				t.Skip("formats are known of Linux only")
			}
			c, dir := ready(t)
			test.spoil(c, dir)
			got := strings.ReplaceAll(lines(Try(c)), dir, "DIR")
			if !strings.HasPrefix(got, test.want) || strings.Contains(got, "\n") {
				t.Errorf("got\n%s\nwant\n%s", got, test.want)
			}
		})
	}
}

// What others could swap is not used, and that is said before a start, and before a
// takeover of a service that had it from an earlier masterd.
func TestTryFindsWhatOthersCouldSwap(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to make a directory of another user")
	}
	const stranger = 54321
	for name, test := range map[string]struct {
		spoil func(c *Config, theirs string)
		want  string
		takes bool // a service that runs is taken over all the same
	}{
		"a socket": {func(c *Config, theirs string) {
			c.Listeners = []Listener{{Name: "http", Network: "unix", Path: theirs + "/s"}}
		}, "listeners: listener http on DIR/theirs/s: DIR/theirs belongs to uid 54321", false},
		"variables": {func(c *Config, theirs string) {
			put(t, theirs, "vars", "A=1\n", 0o600)
			c.Worker.EnvFiles = []string{theirs + "/vars"}
		}, "worker.env_files: environment file DIR/theirs/vars: DIR/theirs belongs to uid 54321", false},
		"a log that is a FIFO": {func(c *Config, theirs string) {
			c.Log.File = theirs + "/log"
			if err := syscall.Mkfifo(c.Log.File, 0o600); err != nil {
				t.Fatal(err)
			}
		}, "log.file: open DIR/theirs/log: not a regular file", true},
		"a log that is a link": {func(c *Config, theirs string) {
			c.Log.File = theirs + "/log"
			if err := os.Symlink("/etc/passwd", c.Log.File); err != nil {
				t.Fatal(err)
			}
		}, "log.file: DIR/theirs/log is a symbolic link that others could have put there", true},
	} {
		c, dir := ready(t)
		theirs := dir + "/theirs"
		if err := errors.Join(os.Mkdir(theirs, 0o755), os.Chown(theirs, stranger, stranger)); err != nil {
			t.Fatal(err)
		}
		test.spoil(c, theirs)
		got := strings.ReplaceAll(lines(Try(c)), dir, "DIR")
		if !strings.HasPrefix(got, test.want) || strings.Contains(got, "\n") {
			t.Errorf("%s: got\n%s\nwant\n%s", name, got, test.want)
		}
		if err := Refused(c.Listeners, c.Worker.EnvFiles); (err == nil) != test.takes {
			t.Errorf("%s, at a takeover: %v", name, err)
		}
	}
}

// A log file that a master could not write to is said before another one takes over, and
// what the master was started with is no file.
func TestRefusedLog(t *testing.T) {
	for name, test := range map[string]struct {
		make func(path string) error
		want string
	}{
		"none":   {func(string) error { return nil }, ""},
		"a file": {func(path string) error { return os.WriteFile(path, nil, 0o600) }, ""},
		"a FIFO": {func(path string) error { return syscall.Mkfifo(path, 0o600) }, "not a regular file"},
		"a second name": {func(path string) error {
			return errors.Join(os.WriteFile(path+"1", nil, 0o600), os.Link(path+"1", path))
		}, "hard link"},
	} {
		c, _ := ready(t)
		if err := test.make(c.Log.File); err != nil {
			t.Fatal(err)
		}
		if err := RefusedLog(c); (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	c, _ := ready(t)
	for file, out := range map[string]bool{"/dev/stdout": true, "/dev/stderr": false} {
		c.Log.File = file
		path, toOut := c.Log.Path()
		if found := Try(c); path != "" || toOut != out || RefusedLog(c) != nil || len(found) > 0 {
			t.Errorf("%s: %q, %v, %v", file, path, toOut, found)
		}
	}
}

// Every directory on the way must let the worker's user through, also on the
// way that symbolic links make of it.
func TestReach(t *testing.T) {
	_, dir := ready(t)
	st, err := os.Stat(dir)
	if err != nil {
		t.Fatal(err)
	}
	stranger := account{name: "stranger", uid: 64000, groups: []uint32{64000}}
	for at := filepath.Dir(dir); at != "/"; at = filepath.Dir(at) {
		st, err := os.Stat(at)
		if err != nil {
			t.Fatal(err)
		}
		if !stranger.may(st, mayExecute) {
			if err := os.Chmod(at, st.Mode().Perm()|0o711); err != nil {
				t.Skip("the directory for temporary files is closed to others")
			}
		}
	}
	if !stranger.may(st, mayExecute) {
		t.Fatal(st.Mode())
	}
	inner := filepath.Join(dir, "inner")
	if err := os.Mkdir(inner, 0o700); err != nil {
		t.Fatal(err)
	}
	put(t, inner, "shop", "x", 0o755)
	link := filepath.Join(dir, "link")
	if err := os.Symlink(filepath.Join(inner, "shop"), link); err != nil {
		t.Fatal(err)
	}
	owner := self()
	for _, path := range []string{filepath.Join(inner, "shop"), link} {
		if why := owner.reach(path, mayExecute); why != "" {
			t.Error(why)
		}
		if why := stranger.reach(path, mayExecute); runtime.GOOS == "linux" && !strings.Contains(why, "may not enter the directory "+inner) {
			t.Errorf("%s: %s", path, why)
		}
	}
	if why := stranger.reach(filepath.Join(dir, "shop"), mayExecute); why != "" {
		t.Error(why)
	}
	put(t, dir, "shop", "x", 0o700)
	if why := stranger.reach(filepath.Join(dir, "shop"), mayExecute); runtime.GOOS == "linux" && !strings.Contains(why, "permissions") {
		t.Error(why)
	}
	member := account{uid: 64000, groups: []uint32{uint32(os.Getegid())}}
	put(t, dir, "shop", "x", 0o710)
	if err := os.Chown(filepath.Join(dir, "shop"), -1, os.Getegid()); err != nil {
		t.Fatal(err)
	}
	if why := member.reach(filepath.Join(dir, "shop"), mayExecute); why != "" {
		t.Error(why)
	}
}
