package config

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/masterd/masterd/pkg/master/trust"
)

// Finding is something about this machine that does not fit a configuration.
type Finding struct {
	Key     string // of the configuration
	Text    string // what was tried, what came of it, what to do
	Warning bool   // the service would start all the same
}

// String is the finding as one line.
func (f Finding) String() string {
	if f.Warning {
		return "warning: " + f.Key + ": " + f.Text
	}
	return f.Key + ": " + f.Text
}

// Try tries on this machine what a start of the service would need, without
// starting it: programs, directories, files. Nothing stays changed. It is a
// matter of the moment and of who asks: run it as the master's user.
func Try(c *Config) []Finding {
	t := &trial{config: c}
	t.file()
	who, err := workerAccount(c.Worker)
	if err != nil {
		t.bad("worker.user", "%v", err)
		return t.found
	}
	t.who = who
	if len(c.Worker.Command) > 0 {
		t.program(c.Worker.Command[0])
	}
	t.workDirectory()
	t.directory("state_dir", c.StateDir)
	t.directory("runtime_dir", c.RuntimeDir)
	t.store()
	t.envFiles()
	t.helpers()
	t.sharedSockets()
	for _, l := range c.Listeners {
		if err := l.refused(); err != nil {
			t.bad("listeners", "%v", err)
		} else if l.Network == "unix" {
			t.directory("listeners", filepath.Dir(l.Path))
		}
	}
	if path, _ := c.Log.Path(); path != "" {
		if err := RefusedLog(c); err != nil {
			t.bad("log.file", "%v", err)
		} else {
			t.directory("log.file", filepath.Dir(path)) // it is made anew after a rotation
		}
	}
	return t.found
}

// Refused says which path of a service a master does not use, because others could put
// another thing there. A service that runs may name one: an earlier masterd took it. The
// files of variables are a version's, which may be older than the configuration.
func Refused(listeners []Listener, envFiles []string) error {
	for _, l := range listeners {
		if err := l.refused(); err != nil {
			return err
		}
	}
	for _, f := range envFiles {
		_, err := LoadEnvFile(f)
		if _, ok := errors.AsType[trust.Refused](err); ok {
			return err
		}
	}
	return nil
}

// RefusedLog says why a master could not write to the log file that is there.
func RefusedLog(c *Config) error {
	path, _ := c.Log.Path()
	if path == "" {
		return nil
	}
	f, err := trust.Own().Append(path, false, 0)
	if err == nil {
		return f.Close()
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil // it is made
	}
	return err
}

func (l Listener) refused() error {
	if l.Network != "unix" {
		return nil
	}
	dir, err := trust.Own().OpenDir(filepath.Dir(l.Path))
	if _, ok := errors.AsType[trust.Refused](err); ok {
		return fmt.Errorf("listener %s on %s: %w", l.Name, l.Path, err)
	}
	if err == nil {
		_ = dir.Close()
	}
	return nil // what else is wrong is said where it is used
}

type trial struct {
	config *Config
	who    account // the worker's user
	found  []Finding
}

func (t *trial) bad(key, format string, args ...any) {
	t.found = append(t.found, Finding{Key: key, Text: fmt.Sprintf(format, args...)})
}

func (t *trial) warn(key, format string, args ...any) {
	t.found = append(t.found, Finding{Key: key, Text: fmt.Sprintf(format, args...), Warning: true})
}

// file warns when others could tell the master what to run.
func (t *trial) file() {
	st, err := os.Stat(t.config.File)
	if err == nil && st.Mode().Perm()&0o002 != 0 {
		t.warn("service", "every user may change %s, and with it what the master runs; chmod o-w it", t.config.File)
	}
}

// program tries whether the program could be run by the worker's user.
func (t *trial) program(path string) {
	const key = "worker.command"
	st, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist) && strings.Contains(path, "/~"):
		t.bad(key, "the program %s does not exist: there is no shell, so ~ is no home directory; write the whole path", path)
		return
	case errors.Is(err, fs.ErrNotExist) && strings.Contains(path, " "):
		t.bad(key, "the program %s does not exist: each argument is an item of its own, [\"/bin/shop\", \"--mode=prod\"]", path)
		return
	case errors.Is(err, fs.ErrNotExist):
		t.bad(key, "the program %s does not exist", path)
		return
	case err != nil:
		t.bad(key, "the program %s cannot be looked at: %v", path, fileCause(err))
		return
	case st.IsDir():
		t.bad(key, "%s is a directory, not a program", path)
		return
	case !st.Mode().IsRegular():
		t.bad(key, "%s is not a regular file", path)
		return
	case st.Size() == 0:
		t.bad(key, "the program %s is empty; was it still being written?", path)
		return
	}
	if why := t.who.reach(path, mayExecute); why != "" {
		t.bad(key, "%s cannot run %s: %s", t.who, path, why)
	}
	if noExec(path) {
		t.bad(key, "%s is on a file system that is mounted noexec", path)
	}
	f, err := os.Open(path)
	if err != nil {
		t.bad(key, "the program %s cannot be read, so it cannot be pinned: %v", path, fileCause(err))
		return
	}
	defer f.Close()
	t.format(path, f)
	if t.config.Worker.Pin == "copy" && hasCapabilities(path) {
		t.bad("worker.pin", "%s has file capabilities, which a copy loses; write path, or grant them in the unit (AmbientCapabilities=)", path)
	}
}

// format tries whether the kernel could execute it.
func (t *trial) format(path string, f *os.File) {
	const key = "worker.command"
	head := make([]byte, 256)
	n, err := io.ReadFull(f, head)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		t.bad(key, "the program %s cannot be read: %v", path, fileCause(err))
		return
	}
	head = head[:n]
	if script, ok := bytes.CutPrefix(head, []byte("#!")); ok {
		line, _, _ := bytes.Cut(script, []byte("\n"))
		words := strings.Fields(string(line))
		if len(words) == 0 {
			t.bad(key, "the script %s names no interpreter in its first line", path)
		} else if _, err := os.Stat(words[0]); err != nil {
			t.bad(key, "the interpreter %s of the script %s: %v", words[0], path, fileCause(err))
		}
		return
	}
	if runtime.GOOS != "linux" {
		return
	}
	if !bytes.HasPrefix(head, []byte(elf.ELFMAG)) {
		t.bad(key, "%s is neither an executable nor a script that begins with #!", path)
		return
	}
	file, err := elf.NewFile(f)
	if err != nil {
		t.bad(key, "%s is a broken executable (was it still being written?): %v", path, err)
		return
	}
	if want := machine(runtime.GOARCH); want != elf.EM_NONE && file.Machine != want {
		t.bad(key, "%s is for another processor: %s, this machine has %s", path, file.Machine, want)
	}
}

// machine is the ELF name of a Go architecture; EM_NONE: not known here.
func machine(goarch string) elf.Machine {
	switch goarch {
	case "amd64":
		return elf.EM_X86_64
	case "arm64":
		return elf.EM_AARCH64
	}
	return elf.EM_NONE
}

// workDirectory tries whether the worker could be started there.
func (t *trial) workDirectory() {
	dir := t.config.Worker.Directory
	st, err := os.Stat(dir)
	switch {
	case err != nil:
		t.bad("worker.directory", "%s: %v", dir, fileCause(err))
	case !st.IsDir():
		t.bad("worker.directory", "%s is not a directory", dir)
	default:
		if why := t.who.reach(dir, mayExecute); why != "" {
			t.bad("worker.directory", "%s cannot enter %s: %s", t.who, dir, why)
		}
	}
}

// directory tries whether the master could write in a directory, or make it.
func (t *trial) directory(key, dir string) {
	at := dir
	for {
		st, err := os.Stat(at)
		if err == nil && !st.IsDir() {
			t.bad(key, "%s is not a directory", at)
			return
		}
		if err == nil {
			break
		}
		if !errors.Is(err, fs.ErrNotExist) || at == filepath.Dir(at) {
			t.bad(key, "%s cannot be looked at: %v", at, fileCause(err))
			return
		}
		at = filepath.Dir(at)
	}
	if err := tryWrite(at); err != nil {
		if at == dir {
			t.bad(key, "cannot write in %s: %v", dir, err)
		} else {
			t.bad(key, "cannot make %s: cannot write in %s: %v", dir, at, err)
		}
	}
}

// probeSize is how much is written to find out whether a disk is full, in bytes.
const probeSize = 64 << 10

// tryWrite writes a file in dir and removes it.
func tryWrite(dir string) error {
	f, err := os.CreateTemp(dir, ".masterd-check-*")
	if err != nil {
		return fileCause(err)
	}
	defer os.Remove(f.Name())
	_, err = f.Write(make([]byte, probeSize))
	if err == nil {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	return fileCause(err)
}

// sharedSockets warns where all versions hold one socket: what a version has left
// behind, which no master knows of, accepts from it too.
func (t *trial) sharedSockets() {
	if t.config.Worker.Kind == KindSDK {
		return
	}
	for _, l := range t.config.Listeners {
		if l.Steering == "shared" {
			t.warn("listeners", "listener %s has steering: shared, so all versions hold the same socket: a process that a version has left behind takes clients of the next one, and workers of kind %s cannot be asked to pause; write auto. Its checks reach whichever worker accepts; use worker.ready: notify", l.Name, t.config.Worker.Kind)
		}
	}
}

// store tries whether pinned programs could be run from the state directory.
func (t *trial) store() {
	if t.config.Worker.Pin == "path" {
		return
	}
	say := t.bad
	if t.config.Worker.Pin == "auto" { // it may turn out that nothing is copied
		say = t.warn
	}
	at := nearestDir(t.config.StateDir)
	if noExec(at) {
		say("state_dir", "%s is on a file system that is mounted noexec, so pinned programs cannot be run from it; put state_dir elsewhere, or set worker.pin to path", t.config.StateDir)
	}
	if why := t.who.reach(at, mayExecute); why != "" {
		say("state_dir", "%s could not run pinned programs from %s: %s", t.who, t.config.StateDir, why)
	}
}

// nearestDir is dir, or the first above it that exists.
func nearestDir(dir string) string {
	for {
		if _, err := os.Stat(dir); err == nil || dir == filepath.Dir(dir) {
			return dir
		}
		dir = filepath.Dir(dir)
	}
}

// envFiles tries whether they can be read and make sense.
func (t *trial) envFiles() {
	for _, f := range t.config.Worker.EnvFiles {
		if _, err := LoadEnvFile(f); err != nil {
			t.bad("worker.env_files", "%v", err)
		} else if st, err := os.Stat(f); err == nil && st.Mode().Perm()&0o004 != 0 {
			t.warn("worker.env_files", "every user may read %s; if it holds secrets, chmod o-r it", f)
		}
	}
}

// helpers tries the programs that the master itself runs.
func (t *trial) helpers() {
	h := t.config.Rollout.Hooks
	for _, hooks := range []struct {
		key  string
		list [][]string
	}{
		{"rollout.hooks.before", h.Before}, {"rollout.hooks.after", h.After}, {"rollout.hooks.failed", h.Failed},
		{"health.command", [][]string{t.config.Health.Command}},
	} {
		for _, args := range hooks.list {
			if len(args) == 0 {
				continue
			}
			st, err := os.Stat(args[0])
			switch {
			case err != nil:
				t.bad(hooks.key, "the program %s: %v", args[0], fileCause(err))
			case !st.Mode().IsRegular():
				t.bad(hooks.key, "%s is not a program", args[0])
			default:
				if why := self().reach(args[0], mayExecute); why != "" {
					t.bad(hooks.key, "the master cannot run %s: %s", args[0], why)
				}
			}
		}
	}
}
