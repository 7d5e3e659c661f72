package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/test/service"
)

// release lays out a directory as deployments do: a masterd and its configuration.
// The configuration says by the number of workers which one it is.
func release(t *testing.T, s *service.Service, n int) {
	t.Helper()
	dir := filepath.Join(s.Dir, name(n))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(s.Masterd)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "masterd.new"), text, 0o755)
	}
	if err == nil {
		err = os.Rename(filepath.Join(dir, "masterd.new"), filepath.Join(dir, "masterd"))
	}
	if err == nil {
		own := service.Service{Config: clone(s.Config).Set("worker.processes", n), File: filepath.Join(dir, "masterd.yaml")}
		err = own.Write()
	}
	if err != nil {
		t.Fatal(err)
	}
}

func name(release int) string { return fmt.Sprintf("r%d", release) }

// flip has current be another release, in one step.
func flip(t *testing.T, s *service.Service, n int) {
	t.Helper()
	next := filepath.Join(s.Dir, "next")
	err := os.Symlink(name(n), next)
	if err == nil {
		err = os.Rename(next, filepath.Join(s.Dir, "current"))
	}
	if err != nil {
		t.Fatal(err)
	}
}

// whoeverRuns waits until only the active generation is there, whoever is its master:
// the one that the test has started may have ended.
func whoeverRuns(t *testing.T, s *service.Service) api.Status {
	t.Helper()
	var st api.Status
	var err error
	for limit := time.Now().Add(patience); time.Now().Before(limit); time.Sleep(poll) {
		if st, err = s.API.Status(t.Context()); err == nil && st.State != "" && st.Rollout == nil && len(st.Generations) == 1 {
			return st
		}
	}
	t.Fatalf("it does not settle: %+v, %v", st, err)
	return st
}

// A master that was started by relative paths, from a directory that is a symbolic
// link, is upgraded to what the link leads to by then, and reads what a reload
// reads: also when the release that it was started from is gone.
func TestUpgradeFollowsTheLinkThatItWasStartedBy(t *testing.T) {
	besideOthers(t)
	for how, argv := range map[string][]string{
		"in the release":     {"./masterd", "run", "--config", "masterd.yaml"},
		"beside the release": {"current/masterd", "--config", "current/masterd.yaml"},
	} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			s := newService(t)
			release(t, s, 1)
			flip(t, s, 1)
			s.File = filepath.Join(s.Dir, "current", "masterd.yaml")
			s.From, s.Argv = s.Dir, argv
			if argv[0] == "./masterd" {
				s.From = filepath.Join(s.Dir, "current")
			}
			if err := s.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			runs := func(release, configuration int) {
				t.Helper()
				st := whoeverRuns(t, s)
				if got, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", st.Master.PID)); err != nil || got != filepath.Join(s.Dir, name(release), "masterd") {
					t.Errorf("masterd runs as %s, %v; it should as that of r%d", got, err, release)
				}
				if st.ConfigFile != s.File {
					t.Errorf("the configuration is %s and not %s", st.ConfigFile, s.File)
				}
				if got := len(pidsByWorker(st)); got != configuration {
					t.Errorf("%d workers run: that is the configuration of r%d, and r%d's is wanted", got, got, configuration)
				}
			}
			cli := func(args ...string) {
				t.Helper()
				if out, code := s.CLI(t.Context(), args...); code != 0 {
					t.Fatalf("%v ended with %d: %s", args, code, out)
				}
			}
			runs(1, 1)

			release(t, s, 2)
			flip(t, s, 2)
			cli("reload", "--until", "baked")
			runs(1, 2)
			cli("upgrade")
			runs(2, 2)
			cli("reload", "--until", "baked")
			runs(2, 2)

			// The first release goes, and with it the directory that it was started in.
			if err := os.RemoveAll(filepath.Join(s.Dir, "r1")); err != nil {
				t.Fatal(err)
			}
			cli("upgrade")
			runs(2, 2)

			// A bad one comes: the one before is back, and knows still where to look.
			release(t, s, 3)
			bad := fmt.Sprintf("#!/bin/sh\n[ \"$1\" = prove ] && exec %s \"$@\"\nexit 1\n", s.Masterd)
			if err := os.WriteFile(filepath.Join(s.Dir, "r3", "masterd"), []byte(bad), 0o755); err != nil {
				t.Fatal(err)
			}
			flip(t, s, 3)
			if out, code := s.CLI(t.Context(), "upgrade"); code == 0 {
				t.Fatalf("a broken one was taken: %s", out)
			}
			if st := whoeverRuns(t, s); st.Master.Restored == "" {
				t.Error("it is not said that the one before is back")
			}
			runs(2, 2)
			cli("reload", "--until", "baked")
			runs(2, 3)
			release(t, s, 3)
			cli("upgrade")
			runs(3, 3)
		})
	}
}

// When an upgrade has cost the master, and there is nobody to bring it back, the
// verb says so; that is not "nothing has changed".
func TestUpgradeSaysThatTheMasterIsGone(t *testing.T) {
	t.Parallel()
	s := started(t, nil)
	st, err := s.API.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	binary := filepath.Join(s.Dir, "ends-both")
	text := fmt.Sprintf("#!/bin/sh\n[ \"$1\" = prove ] && exec %s \"$@\"\nkill -9 %d\nexit 1\n", s.Masterd, st.Master.Keeper)
	if err := os.WriteFile(binary, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	out, code := s.CLI(t.Context(), "upgrade", "--binary", binary)
	if code != 3 || !strings.Contains(out, "no master runs since") || strings.Contains(out, "nothing has changed") {
		t.Errorf("it ended with %d and said: %s", code, out)
	}
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	alone(t, s)
}

// What becomes of masterd itself is in the history: a death and who took over, an
// upgrade with who wanted it and why, and one that failed.
func TestHistoryTellsOfMasterd(t *testing.T) {
	t.Parallel()
	s := started(t, nil)
	alone(t, s)
	last := func(what, outcome, why, reason string) {
		t.Helper()
		var entries []api.Entry
		for limit := time.Now().Add(patience); time.Now().Before(limit); time.Sleep(poll) {
			var err error
			if entries, err = s.API.History(t.Context(), 20); err != nil {
				continue
			}
			for _, e := range entries {
				if e.What == what && e.Outcome == outcome && e.Why == why && strings.Contains(e.Reason, reason) && e.By != "" && !e.At.IsZero() {
					return
				}
			}
		}
		t.Errorf("no entry %s, %s, %q, %q: %+v", what, outcome, why, reason, entries)
	}
	s.Kill()
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	last("takeover", "done", "", "died without a stop")
	if out, code := s.CLI(t.Context(), "upgrade", "--reason", "a better one"); code != 0 {
		t.Fatalf("%d: %s", code, out)
	}
	last("upgrade", "done", "a better one", "has taken over")
	bad := filepath.Join(s.Dir, "bad")
	for _, c := range []struct{ text, outcome, why, reason string }{
		{"exit 3", "failed", "no proof", "cannot take over"},
		{fmt.Sprintf("[ \"$1\" = prove ] && exec %s \"$@\"\nexit 1", s.Masterd), "rolled-back", "a bad one", "is back"},
	} {
		if err := os.WriteFile(bad, []byte("#!/bin/sh\n"+c.text+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		if out, code := s.CLI(t.Context(), "upgrade", "--binary", bad, "--reason", c.why); code == 0 {
			t.Fatal(out)
		}
		last("upgrade", c.outcome, c.why, c.reason)
	}
}
