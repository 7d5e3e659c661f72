package e2e

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/test/service"
)

// Somebody removes what is in the runtime directory, as those do who tidy up
// /tmp: verbs go on to reach the master, a worker that dies is replaced, a reload
// goes through, and the next master knows everybody.
func TestRuntimeDirIsMadeAgain(t *testing.T) {
	besideOthers(t)
	removals := map[string]func(run string) error{
		"the sockets": func(run string) error {
			return errors.Join(removeAll(filepath.Join(run, "*.sock")), removeAll(filepath.Join(run, "notify", "*")))
		},
		"what the next master needs": func(run string) error {
			return errors.Join(removeAll(filepath.Join(run, "live.json")), removeAll(filepath.Join(run, "config-*")), removeAll(filepath.Join(run, "lock")))
		},
		"the directory": func(run string) error { // at once: a master is quick enough to make a part of it meanwhile
			return errors.Join(os.Rename(run, run+".gone"), os.RemoveAll(run+".gone"))
		},
	}
	for what, remove := range removals {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			s := started(t, func(c service.Config) { c.Set("rollout.bake", "0s") })
			run := filepath.Join(s.Dir, "run")
			end := strict(t, s, 4)
			before := files(t, run)
			if err := remove(run); err != nil {
				t.Fatal(err)
			}
			for _, name := range before {
				eventually(t, name+" is there again", func() bool { _, err := os.Lstat(name); return err == nil })
			}
			if out, code := s.CLI(t.Context(), "status"); code != 0 {
				t.Fatalf("status: exit code %d\n%s", code, out)
			}
			// A worker that starts now reaches the master, by a reload and after a death.
			if out := reload(t, s, api.ReloadRequest{Label: "v2"}); out.Result != api.ResultDone {
				t.Fatalf("reload: %+v", out)
			}
			if r := end(); r.Failed() > 0 {
				t.Errorf("requests failed: %s", r)
			}
			worker, err := s.Worker(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if err := syscall.Kill(worker, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			next := 0
			if err := s.Wait(t.Context(), 20*time.Second, "another worker", func(st api.Status) bool {
				next, err = s.Worker(t.Context())
				return err == nil && next != worker && next != 0 && st.State == "serving"
			}); err != nil {
				t.Fatal(err)
			}
			st, err := s.API.Status(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			keeper := st.Master.Keeper
			s.Kill()
			if err := s.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			if st, err = s.API.Status(t.Context()); err != nil || st.Master.Keeper != keeper {
				t.Errorf("the keeper was %d and is %d: %v", keeper, st.Master.Keeper, err)
			}
			if now, err := s.Worker(t.Context()); err != nil || now != next {
				t.Errorf("the next master runs worker %d and not %d: %v", now, next, err)
			}
		})
	}
}

// A keeper whose socket is removed while there is no master makes it again: the
// next one takes over.
func TestKeeperMakesItsSocketAgain(t *testing.T) {
	t.Parallel()
	s := started(t, nil)
	worker, err := s.Worker(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	st, err := s.API.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s.Kill()
	socket := filepath.Join(s.Dir, "run", "keeper.sock")
	if err := os.Remove(socket); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the keeper's socket is there again", func() bool { _, err := os.Lstat(socket); return err == nil })
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	now, err := s.API.Status(t.Context())
	if err != nil || now.Master.Keeper != st.Master.Keeper {
		t.Errorf("the keeper was %d and is %d: %v", st.Master.Keeper, now.Master.Keeper, err)
	}
	if again, err := s.Worker(t.Context()); err != nil || again != worker {
		t.Errorf("worker %d became %d: %v", worker, again, err)
	}
}

// A configuration that was broken, or is gone, keeps nobody from its master,
// though that is in a directory of its own.
func TestMasterIsFoundWithABrokenFile(t *testing.T) {
	t.Parallel()
	name := fmt.Sprintf("found-%d-%x", os.Getpid(), time.Now().UnixNano()&0xffff)
	s := started(t, func(c service.Config) { c.Set("service", name) })
	good, err := os.ReadFile(s.File)
	if err != nil {
		t.Fatal(err)
	}
	verb := func(args ...string) (string, int) {
		t.Helper()
		c := exec.CommandContext(t.Context(), s.Masterd, args...)
		out, _ := c.CombinedOutput()
		return string(out), c.ProcessState.ExitCode()
	}
	for what, breaks := range map[string]func() error{
		"a typo":      func() error { return os.WriteFile(s.File, append([]byte("rolout: {bake: 1s}\n"), good...), 0o644) },
		"no YAML":     func() error { return os.WriteFile(s.File, []byte("{{{"), 0o644) },
		"empty":       func() error { return os.WriteFile(s.File, nil, 0o644) },
		"gone":        func() error { return os.Remove(s.File) },
		"moved about": func() error { return os.WriteFile(s.File, []byte("service: x\nruntime_dir: /nowhere\n"), 0o644) },
	} {
		if err := breaks(); err != nil {
			t.Fatal(err)
		}
		if out, code := verb("--config", s.File, "status"); code != 0 || !strings.Contains(out, name) {
			t.Errorf("%s: status: exit code %d\n%s", what, code, out)
		}
		if out, code := verb("status", "--service", name); code != 0 || !strings.Contains(out, name) {
			t.Errorf("%s: status --service: exit code %d\n%s", what, code, out)
		}
		// It is the master that refuses, and not the search.
		if out, code := verb("--config", s.File, "reload"); code != 2 || !strings.Contains(out, filepath.Base(s.File)) {
			t.Errorf("%s: reload: exit code %d\n%s", what, code, out)
		}
		if st, err := s.API.Status(t.Context()); err != nil || st.State == "" {
			t.Errorf("%s: %+v, %v", what, st, err)
		}
	}
	if out, code := verb("--config", s.File, "stop"); code != 0 {
		t.Errorf("stop: exit code %d\n%s", code, out)
	}
	ended(t, s)
	if out, code := verb("status", "--service", name); code != 3 {
		t.Errorf("after the end: exit code %d\n%s", code, out)
	}
}

// removeAll removes what matches; that there is nothing is an error.
func removeAll(pattern string) (err error) {
	paths, _ := filepath.Glob(pattern)
	for _, path := range paths {
		err = errors.Join(err, os.Remove(path))
	}
	return err
}

// files are those in a runtime directory that a master cannot be without.
func files(t *testing.T, dir string) (paths []string) {
	t.Helper()
	for _, name := range []string{"admin.sock", "control.sock", "keeper.sock", "live.json", "lock", "out", "notify"} {
		path := filepath.Join(dir, name)
		if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
			t.Fatalf("%s is not there", path)
		}
		paths = append(paths, path)
	}
	configs, _ := filepath.Glob(filepath.Join(dir, "config-*.yaml"))
	if len(configs) == 0 {
		t.Fatal("no configuration is kept")
	}
	return append(paths, configs...)
}
