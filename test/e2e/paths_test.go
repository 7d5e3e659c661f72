package e2e

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/test/service"
)

// theirs makes a directory that the worker's user can write to.
func theirs(t *testing.T, s *service.Service, name string) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root, to run workers as another user")
	}
	dir := filepath.Join(s.Dir, name)
	if err := errors.Join(os.Mkdir(dir, 0o755), os.Chown(dir, nobody, nobody)); err != nil {
		t.Fatal(err)
	}
	return dir
}

// secret makes a file that only root may read.
func secret(t *testing.T, s *service.Service, text string) string {
	t.Helper()
	return write(t, s, "secret", text, 0o600)
}

// A worker's user could put a link in the place of a socket in his directory: root's
// master does not go there, neither at a check nor at a start, and says what to type.
func TestListenerInADirectoryOfTheWorkersUser(t *testing.T) {
	t.Parallel()
	s := newService(t)
	dir := theirs(t, s, "sockets")
	path := filepath.Join(dir, "s")
	s.Config.Set("worker.user", "nobody").Set("listeners", listeners("http", "unix://"+path))
	if err := s.Write(); err != nil {
		t.Fatal(err)
	}
	want := dir + " belongs to uid 65534, not to root: it is not used; set another directory, or type: chown 0 " + dir
	if out, code := s.CLI(t.Context(), "check"); code != 2 || !strings.Contains(out, "listeners: listener http on "+path+": "+want) {
		t.Errorf("exit code %d\n%s", code, out)
	}
	if err := s.Launch(); err != nil {
		t.Fatal(err)
	}
	ended(t, s)
	if code := s.ExitCode(); code == 0 || !strings.Contains(s.Log(20), want) {
		t.Errorf("exit code %d\n%s", code, s.Log(20))
	}
	if err := os.Chown(dir, 0, -1); err != nil {
		t.Fatal(err)
	}
	if out, code := s.CLI(t.Context(), "check"); code != 0 {
		t.Errorf("exit code %d\n%s", code, out)
	}
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// A link to another service's secret in the place of a file with variables would give
// it to the worker.
func TestVariablesOfAnotherService(t *testing.T) {
	t.Parallel()
	s := newService(t)
	dir := theirs(t, s, "app")
	vars := filepath.Join(dir, "vars")
	if err := errors.Join(os.Symlink(secret(t, s, "STOLEN=yes\n"), vars), os.Lchown(vars, nobody, nobody)); err != nil {
		t.Fatal(err)
	}
	s.Config.Set("worker.user", "nobody")
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	baked(t, s)
	s.Config.Set("worker.env_files", []string{vars})
	if err := s.Write(); err != nil {
		t.Fatal(err)
	}
	want := "environment file " + vars + ": " + dir + " belongs to uid 65534"
	if out, code := s.CLI(t.Context(), "check"); code != 2 || !strings.Contains(out, want) {
		t.Errorf("exit code %d\n%s", code, out)
	}
	if out := reload(t, s, api.ReloadRequest{}); out.Result == api.ResultDone || !strings.Contains(out.Reason, want) {
		t.Errorf("%+v", out)
	}
	// The operator's own link to it is his wish.
	if err := errors.Join(os.Lchown(vars, 0, 0), os.Chown(dir, 0, 0)); err != nil {
		t.Fatal(err)
	}
	if out := reload(t, s, api.ReloadRequest{}); out.Result != api.ResultDone {
		t.Errorf("%+v", out)
	}
	env, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(team(status(t, s))[0].PID), "environ"))
	if err != nil || !strings.Contains(string(env), "STOLEN=yes\x00") {
		t.Errorf("%v: %q", err, env)
	}
}

// Whoever can write to the log's directory puts a FIFO in its place, which waits for a
// reader, or a link to a file of root's.
func TestLogFileIsSwapped(t *testing.T) {
	t.Parallel()
	s := newService(t)
	dir := theirs(t, s, "log")
	log := filepath.Join(dir, "log")
	victim := secret(t, s, "")
	s.Config.Set("worker.user", "nobody").Set("log.file", log)
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	old := filepath.Join(dir, "old")
	if err := os.Rename(log, old); err != nil {
		t.Fatal(err)
	}
	for why, put := range map[string]func() error{
		"not a regular file": func() error { return syscall.Mkfifo(log, 0o666) },
		"is not followed":    func() error { return errors.Join(os.Symlink(victim, log), os.Lchown(log, nobody, nobody)) },
		"a hard link":        func() error { return os.Link(victim, log) },
	} {
		if err := errors.Join(put(), s.Signal(syscall.SIGUSR1)); err != nil {
			t.Fatal(err)
		}
		eventually(t, "that it is refused in the old log: "+why, func() bool {
			text, err := os.ReadFile(old)
			return err == nil && strings.Contains(string(text), "the old one stays in use") && strings.Contains(string(text), why)
		})
		if err := os.Remove(log); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Signal(syscall.SIGUSR1); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a new log", func() bool { _, err := os.Stat(log); return err == nil })
	if text, err := os.ReadFile(victim); err != nil || len(text) > 0 {
		t.Errorf("written to the secret: %q, %v", text, err)
	}
	if err := s.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	ended(t, s)
}

// ended waits for the master's end.
func ended(t *testing.T, s *service.Service) {
	t.Helper()
	select {
	case <-s.Ended():
	case <-time.After(patience):
		t.Fatalf("the master did not end within %s", patience)
	}
}

// A master of a user's own trusts that user, and nobody else.
func TestMasterOfAUserInItsOwnDirectories(t *testing.T) {
	t.Parallel()
	setpriv, err := exec.LookPath("setpriv")
	if err != nil {
		t.Skip(err)
	}
	s := newService(t)
	dir := theirs(t, s, "own")
	vars := filepath.Join(dir, "vars")
	if err := errors.Join(os.Chown(s.Dir, nobody, nobody), os.Symlink(write(t, s, "text", "OWN=yes\n", 0o644), vars), os.Lchown(vars, nobody, nobody)); err != nil {
		t.Fatal(err)
	}
	s.Config.Set("listeners", listeners("http", "unix://"+filepath.Join(dir, "s"))).Set("worker.env_files", []string{vars}).
		Set("log.file", filepath.Join(dir, "log"))
	s.Argv = []string{setpriv, "--reuid=65534", "--regid=65534", "--clear-groups", s.Masterd, "run", "--config", s.File}
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	another := filepath.Join(s.Dir, "another")
	if err := errors.Join(os.Mkdir(another, 0o755), os.Chown(another, nobody-1, nobody-1)); err != nil {
		t.Fatal(err)
	}
	s.Config.Set("listeners", listeners("http", "unix://"+filepath.Join(another, "s")))
	if out := reload(t, s, api.ReloadRequest{}); out.Result == api.ResultDone || !strings.Contains(out.Reason, "neither to root nor to uid 65534") {
		t.Errorf("%+v", out)
	}
}
