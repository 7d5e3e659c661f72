package e2e

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/test/service"
)

// lacks waits until the service serves on, with the worker it had, and says what its
// master does without.
func lacks(t *testing.T, s *service.Service, worker int, why ...string) {
	t.Helper()
	wait(t, s, "to be degraded", func(st api.Status) bool { return st.State == "degraded" })
	st := status(t, s)
	said := strings.Join(st.Reasons, "\n")
	for _, text := range why {
		if !strings.Contains(said, text) {
			t.Errorf("%q is not in:\n%s", text, said)
		}
	}
	if w := team(st); len(w) != 1 || w[0].PID != worker {
		t.Errorf("worker %d was to serve on: %+v", worker, w)
	}
	if code, _, err := ask(s.Addr, "/ping", patience); err != nil || code != 200 {
		t.Error(code, err)
	}
}

// again starts a master in the place of one that was killed.
func again(t *testing.T, s *service.Service, between ...error) {
	t.Helper()
	if err := errors.Join(append(between, s.Launch())...); err != nil {
		t.Fatal(err)
	}
}

// A log file that was taken before, and is not any more, keeps no master from its workers.
func TestTakeoverWithoutTheLog(t *testing.T) {
	t.Parallel()
	log := ""
	s := started(t, func(c service.Config) {
		log = filepath.Join(filepath.Dir(c["state_dir"].(string)), "own.log")
		c.Set("log.file", log)
	})
	baked(t, s)
	worker := onlyWorker(t, s).PID
	s.Kill()
	second := log + ".backup"
	again(t, s, os.Link(log, second))
	lacks(t, s, worker, "The log goes to standard error", log+" is a second name (a hard link)", "type: kill -USR1 ")
	logged(t, s, "the log goes to standard error")
	for _, verb := range []string{"check", "upgrade", "reload"} {
		if out, code := s.CLI(t.Context(), verb); code == 0 || !strings.Contains(out, "a hard link") {
			t.Errorf("%s: %d %s", verb, code, out)
		}
	}
	if err := errors.Join(os.Remove(second), s.Signal(syscall.SIGUSR1)); err != nil {
		t.Fatal(err)
	}
	wait(t, s, "to be whole again", func(st api.Status) bool { return st.State == "serving" && len(st.Reasons) == 0 })
	next(t, s, 2, "baked")
	if text, err := os.ReadFile(log); err != nil || !strings.Contains(string(text), `"generation":2`) {
		t.Errorf("the log has not come back: %v", err)
	}
	if err := errors.Join(s.Stop(), os.Link(log, second)); err != nil {
		t.Fatal(err)
	}
	again(t, s) // nor does it keep a service from starting
	wait(t, s, "to serve without", func(st api.Status) bool {
		return manned(1)(st) && strings.Contains(strings.Join(st.Reasons, "\n"), "The log goes to standard error")
	})
}

// What is wrong with files of the history keeps no master from its workers.
func TestTakeoverWithoutTheHistory(t *testing.T) {
	t.Parallel()
	s := started(t, nil)
	baked(t, s)
	worker := onlyWorker(t, s).PID
	path := filepath.Join(s.Dir, "state", "history.jsonl")
	full := filepath.Join(s.Dir, "state", "history-000000000001.jsonl")

	// A full file may be immutable.
	s.Kill()
	text, err := os.ReadFile(path)
	if err := errors.Join(err, os.WriteFile(full, text, 0o600)); err != nil {
		t.Fatal(err)
	}
	if immutable(t, full, true) {
		again(t, s)
		wait(t, s, "to serve", func(st api.Status) bool { return st.State == "serving" })
		immutable(t, full, false)
		s.Kill()
	}
	// Or not to be read at all.
	again(t, s, os.Remove(full), os.Mkdir(full, 0o700))
	wait(t, s, "to serve", func(st api.Status) bool { return st.State == "serving" })
	logged(t, s, "read history "+full)
	s.Kill()
	// The one that grows is somewhere else.
	again(t, s, os.Remove(full), os.Rename(path, path+".moved"), os.Symlink(path+".moved", path))
	lacks(t, s, worker, "The history is in memory alone", path+" is a symbolic link", "type: masterd upgrade")
	next(t, s, 2, "baked")
	if err := errors.Join(os.Remove(path), os.Rename(path+".moved", path)); err != nil {
		t.Fatal(err)
	}
	if out, code := s.CLI(t.Context(), "upgrade"); code != 0 {
		t.Fatalf("%d %s", code, out)
	}
	wait(t, s, "to be whole again", func(st api.Status) bool { return st.State == "serving" && len(st.Reasons) == 0 })
}

// immutable sets or takes away what chattr +i does, where the file system knows it.
func immutable(t *testing.T, path string, set bool) bool {
	t.Helper()
	const flag = 0x10 // FS_IMMUTABLE_FL
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	flags, err := unix.IoctlGetUint32(int(f.Fd()), unix.FS_IOC_GETFLAGS)
	if err == nil {
		flags &^= flag
		if set {
			flags |= flag
		}
		err = unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, int(flags))
	}
	if err != nil {
		t.Logf("not tried: nothing can be made immutable in %s: %v", filepath.Dir(path), err)
	}
	return err == nil
}

// withVariables starts a service with a file of variables in a directory that can be
// given to another user.
func withVariables(t *testing.T) (s *service.Service, dir, vars string) {
	t.Helper()
	s = newService(t)
	dir = theirs(t, s, "app")
	vars = filepath.Join(dir, "vars")
	if err := errors.Join(os.Chown(dir, 0, 0), os.WriteFile(vars, []byte("KEPT=yes\n"), 0o600)); err != nil {
		t.Fatal(err)
	}
	s.Config.Set("worker.env_files", []string{vars})
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	baked(t, s)
	return s, dir, vars
}

// A service of an earlier masterd has its variables in a directory of another user's.
// Its workers are started again with them, and a reload is refused.
func TestTakeoverWithVariablesInAnothersDirectory(t *testing.T) {
	t.Parallel()
	s, dir, vars := withVariables(t)
	worker := onlyWorker(t, s).PID
	s.Kill()
	again(t, s, byEarlier(s), os.Chown(dir, nobody, nobody))
	lacks(t, s, worker, "refused at the next reload: environment file "+vars+": "+dir+" belongs to uid 65534", "or type: chown 0 "+dir)
	if err := syscall.Kill(worker, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	wait(t, s, "another worker", func(st api.Status) bool { return manned(1)(st) && team(st)[0].PID != worker })
	worker = onlyOf(t, s)
	if env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", worker)); err != nil || !strings.Contains(string(env), "KEPT=yes\x00") {
		t.Errorf("it has lost its variables: %v, %q", err, env)
	}
	for _, verb := range []string{"check", "upgrade", "reload"} {
		if out, code := s.CLI(t.Context(), verb); code == 0 || !strings.Contains(out, dir+" belongs to uid 65534") {
			t.Errorf("%s: %d %s", verb, code, out)
		}
	}
	if err := os.Chown(dir, 0, 0); err != nil {
		t.Fatal(err)
	}
	wait(t, s, "to be whole again", func(st api.Status) bool { return st.State == "serving" && len(st.Reasons) == 0 })
	next(t, s, 2, "baked")

	// What this masterd has started is held to what it was told then.
	s.Kill()
	again(t, s, os.Chown(dir, nobody, nobody))
	worker = onlyOf(t, s)
	if err := syscall.Kill(worker, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "that they are not read", func() bool {
		return history(t, s, func(e api.Entry) bool { return strings.Contains(e.Reason, dir+" belongs to uid 65534") }) != nil
	})
	if err := os.Chown(dir, 0, 0); err != nil {
		t.Fatal(err)
	}
	wait(t, s, "a worker", func(st api.Status) bool { return manned(1)(st) && team(st)[0].PID != worker })
}

// byEarlier makes what runs be of an earlier masterd, which looked at no paths.
func byEarlier(s *service.Service) error {
	live := filepath.Join(s.Dir, "run", "live.json")
	text, err := os.ReadFile(live)
	if err == nil && !strings.Contains(string(text), `,"vetted":true`) {
		err = fmt.Errorf("nothing is vetted: %s", text)
	}
	if err != nil {
		return err
	}
	return os.WriteFile(live, []byte(strings.ReplaceAll(string(text), `,"vetted":true`, "")), 0o600)
}

// A version whose variables are refused by now is not gone back to: that is found out
// before anything is started.
func TestRollbackToRefusedVariables(t *testing.T) {
	t.Parallel()
	s, dir, vars := withVariables(t)
	first := status(t, s).Active.Version.ID
	s.Config.Set("worker.env_files", []string{})
	next(t, s, 2, "baked")
	wait(t, s, "one generation", func(st api.Status) bool { return len(st.Generations) == 1 })
	if err := os.Chown(dir, nobody, nobody); err != nil {
		t.Fatal(err)
	}
	out, err := s.API.Rollback(t.Context(), api.RollbackRequest{Version: first}, nil)
	if err != nil || out.Result != api.ResultFailed || out.Stage != "prepare" || !strings.Contains(out.Reason, "cannot be started: environment file "+vars+": "+dir+" belongs to uid 65534") || !strings.Contains(out.Reason, "or type: chown 0 "+dir) {
		t.Errorf("%+v, %v", out, err)
	}
	if st := status(t, s); st.State != "serving" || len(st.Generations) != 1 {
		t.Errorf("%s %q: %+v", st.State, st.Reasons, st.Generations)
	}
	if err := os.Chown(dir, 0, 0); err != nil {
		t.Fatal(err)
	}
	back(t, s, first)
}

// What was said of a path goes on being said while it is true, whoever has the traffic,
// and what becomes so is said.
func TestRefusedIsNotForgotten(t *testing.T) {
	t.Parallel()
	s, dir, vars := withVariables(t)
	s.Config.Set("rollout.bake", "10m")
	next(t, s, 2, "serving")
	s.Kill()
	again(t, s, byEarlier(s), os.Chown(dir, nobody, nobody))
	refused := "refused at the next reload: environment file " + vars
	says := func(st api.Status) bool { return strings.Contains(strings.Join(st.Reasons, "\n"), refused) }
	wait(t, s, "to be degraded", says)
	back(t, s, "")
	if st := status(t, s); st.State != "degraded" || !says(st) || st.Active.Generation != 1 {
		t.Errorf("%s %q: %+v", st.State, st.Reasons, st.Active)
	}
	for _, owner := range []int{0, nobody} {
		if err := os.Chown(dir, owner, owner); err != nil {
			t.Fatal(err)
		}
		wait(t, s, fmt.Sprintf("uid %d's to be told", owner), func(st api.Status) bool { return says(st) == (owner != 0) })
	}
}

// A Unix socket lies in a directory that an earlier masterd took. Its clients are served
// on, also by a worker's replacement, and a reload is refused until that is mended.
func TestTakeoverWithASocketInAnothersDirectory(t *testing.T) {
	besideOthers(t)
	for _, kind := range []string{"sdk", "socket-activation"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			s := newService(t)
			dir := theirs(t, s, "sockets")
			s.Addr = filepath.Join(dir, "s")
			s.Config.Set("listeners", listeners("http", "unix://"+s.Addr)).Set("restart.initial", "100ms").Set("restart.loop_window", "1s")
			s.Config.Set("health.active.interval", "200ms").Set("health.active.failures", 2)
			if kind != "sdk" {
				s.Config.Set("worker.kind", kind).Set("worker.command", []string{programs.Hostile, "serves", s.Addr}).Set("health.http", map[string]any{"path": "/"})
			}
			if err := errors.Join(os.Chown(dir, 0, 0), s.Start(t.Context())); err != nil {
				t.Fatal(err)
			}
			baked(t, s)
			worker := onlyOf(t, s)
			s.Kill()
			again(t, s, byEarlier(s), os.Chown(dir, nobody, nobody))
			lacks(t, s, worker, "refused at the next reload: listener http on "+s.Addr+": "+dir+" belongs to uid 65534", "or type: chown 0 "+dir)
			for range 3 {
				before := onlyOf(t, s)
				if err := syscall.Kill(before, syscall.SIGKILL); err != nil {
					t.Fatal(err)
				}
				if code, _, err := ask(s.Addr, "/ping", patience); err != nil || code != 200 {
					t.Error(code, err)
				}
				wait(t, s, "another worker", func(st api.Status) bool { return manned(1)(st) && team(st)[0].PID != before })
				if code, _, err := ask(s.Addr, "/ping", patience); err != nil || code != 200 {
					t.Error(code, err)
				}
			}
			if how := status(t, s).Listeners[0]; !strings.Contains(how.Reason, "the path is left as it is") {
				t.Errorf("%+v", how)
			}
			worker = onlyOf(t, s)
			for _, verb := range []string{"check", "upgrade", "reload", "rollback"} {
				if out, code := s.CLI(t.Context(), verb); code == 0 || verb != "rollback" && !strings.Contains(out, dir+" belongs to uid 65534") {
					t.Errorf("%s: %d %s", verb, code, out)
				}
			}
			if now := onlyOf(t, s); now != worker {
				t.Errorf("worker %d serves, it was %d", now, worker)
			}
			if err := os.Chown(dir, 0, 0); err != nil {
				t.Fatal(err)
			}
			wait(t, s, "to be whole again", func(st api.Status) bool {
				return st.State == "serving" && len(st.Reasons) == 0 && st.Listeners[0].Reason == ""
			})
			next(t, s, 2, "baked")
			if code, _, err := ask(s.Addr, "/ping", patience); err != nil || code != 200 {
				t.Error(code, err)
			}
		})
	}
}

// onlyOf is the process of the one worker, degraded or not.
func onlyOf(t *testing.T, s *service.Service) (pid int) {
	t.Helper()
	wait(t, s, "one worker", func(st api.Status) bool {
		w := team(st)
		if len(w) == 1 {
			pid = w[0].PID
		}
		return len(w) == 1 && pid != 0
	})
	return pid
}

// A master that cannot even look for what another one has left does not end as one whose
// unit is over: sweep would end who serves.
func TestWhoServesIsLeftAlone(t *testing.T) {
	t.Parallel()
	s := started(t, nil)
	if os.Geteuid() != 0 {
		t.Skip("needs root, to give the directory away")
	}
	baked(t, s)
	worker := onlyWorker(t, s).PID
	s.Kill()
	state := filepath.Join(s.Dir, "state")
	again(t, s, os.Chown(state, nobody, nobody))
	ended(t, s)
	if code := s.ExitCode(); code != 1 || !strings.Contains(s.Log(5), "cannot be taken over, and serves on") {
		t.Errorf("exit code %d\n%s", code, s.Log(5))
	}
	again(t, s, os.Chown(state, 0, 0))
	wait(t, s, "to serve", func(st api.Status) bool { return st.State == "serving" })
	if got := onlyWorker(t, s).PID; got != worker {
		t.Errorf("worker %d serves, it was %d", got, worker)
	}
}

// A container's standard output is a pipe, and may be named as the log.
func TestLogOnStandardOutput(t *testing.T) {
	t.Parallel()
	s := newService(t)
	s.Config.Set("log.file", "/dev/stdout")
	pipe, out := filepath.Join(s.Dir, "pipe"), filepath.Join(s.Dir, "out")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	s.Argv = []string{"/bin/sh", "-c", "cat <" + pipe + " >" + out + " & exec " + s.Masterd + " run --config " + s.File + " >" + pipe}
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(out); err != nil || !strings.Contains(string(text), "the traffic has moved") {
		t.Errorf("%s, %v", text, err)
	}
	if found, code := s.CLI(t.Context(), "check"); code != 0 {
		t.Error(found)
	}
}
