package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/pkg/master/state"
	"github.com/masterd/masterd/test/service"
)

// A version that fills the runtime directory's file system by its output's file is given
// up, and what is written there meanwhile by the master, and by a service beside it, is
// written all the same: the next masters know everybody.
func TestWorkerThatFillsTheRuntimeDirectory(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("needs root for a file system of its own")
	}
	s, other := unprepared(t), unprepared(t)
	sharedRuntime(t, s, other)
	for _, s := range []*service.Service{s, other} {
		s.Config.Set("worker.command", []string{programs.Hostile, "serves", s.Addr})
		if err := s.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		baked(t, s)
	}
	s.Config.Set("worker.command", []string{programs.Hostile, "takes-space", s.Addr}).Set("rollout.bake", "20s")
	freshly(t, other, func() {
		if out := reload(t, s, api.ReloadRequest{Label: "v2"}); out.Result != api.ResultDone && out.Result != api.ResultRolledBack {
			t.Fatalf("%+v", out)
		}
		next(t, other, 2, "serving")
		wait(t, s, "the first version to be back", func(st api.Status) bool { return st.Active.Generation == 1 && len(st.Generations) == 1 })
	})
	baked(t, other)
	logged(t, s, "without writing output")
	if strings.Contains(s.Log(10_000), "what the next master needs cannot be written") {
		t.Error("what was needed could not be written")
	}
	if log := other.Log(10_000); strings.Contains(log, "what the next master needs cannot be written") {
		t.Error("what a service beside it needed could not be written")
	}
	for _, s := range []*service.Service{s, other} {
		before := team(status(t, s))
		l, err := state.LoadLive(filepath.Join(s.Dir, "run"), state.Boot())
		if err != nil || len(before) != 1 || l == nil || len(l.Workers) != 1 || l.Workers[0].PID != before[0].PID {
			t.Fatalf("the next master is left %+v, %v; there is %+v", l, err, before)
		}
		s.Kill()
		if err := s.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		if after := team(status(t, s)); len(after) != 1 || after[0].PID != before[0].PID {
			t.Errorf("the next master has %+v, there was %+v", after, before)
		}
		if err := s.Stop(); err != nil { // before its file system goes
			t.Error(err)
		}
	}
}

// sharedRuntime has two services' runtime directories in one small file system, as those
// of services below /run are.
func sharedRuntime(t *testing.T, s, other *service.Service) {
	t.Helper()
	shared := filepath.Join(tmpfs(t, s.Dir, "run", "size=16m"), "other")
	beside := filepath.Join(other.Dir, "run")
	for _, dir := range []string{shared, beside} {
		if err := os.Mkdir(dir, 0o711); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := exec.Command("mount", "--bind", shared, beside).CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	t.Cleanup(func() { _ = exec.Command("umount", "-l", beside).Run() })
}
