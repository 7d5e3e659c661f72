package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/test/service"
	"github.com/masterd/masterd/test/service/servicetest"
)

// Three failed checks take six seconds with the defaults. A version that turns sick
// after one second of a bake of five must not be trusted.
func TestBakeDoesNotEndWhileChecksFail(t *testing.T) {
	t.Parallel()
	s := started(t, func(c service.Config) { c.Set("rollout.bake", "5s") })
	baked(t, s)
	s.Config.Set("worker.env", map[string]any{"RELEASE": "v2", "DEMO_UNHEALTHY_AFTER": "1s"})
	out := reload(t, s, api.ReloadRequest{Label: "v2", Until: "baked"})
	if out.Result != api.ResultRolledBack || out.Stage != "bake" || !strings.Contains(out.Reason, "health checks in a row") {
		t.Errorf("outcome %+v", out)
	}
	if st := status(t, s); st.Active.Version.Label == "v2" || st.State != "serving" {
		t.Errorf("%s, %+v", st.State, st.Active)
	}
}

// A short bake is said by check, and is no error.
func TestCheckWarnsOfAShortBake(t *testing.T) {
	t.Parallel()
	s := newService(t)
	s.Config.Set("rollout.bake", "5s")
	if err := s.Write(); err != nil {
		t.Fatal(err)
	}
	if out := cli(t, s, 0, "check"); !strings.Contains(out, "warning: rollout.bake (5s) is shorter than health.active.interval") {
		t.Errorf("check says:\n%s", out)
	}
	s.Config.Set("rollout.bake", "6s")
	if err := s.Write(); err != nil {
		t.Fatal(err)
	}
	if out := cli(t, s, 0, "check"); strings.Contains(out, "warning: rollout") {
		t.Errorf("check says:\n%s", out)
	}
}

// Workers that are replaced one at a time each serve for rollout.min_ready first, and
// one that dies in it brings back those that had left.
func TestOneAtATimeTakesItsTime(t *testing.T) {
	t.Parallel()
	const minReady = 700 * time.Millisecond
	s := started(t, func(c service.Config) {
		c.Set("worker.processes", 3).Set("rollout.surge", "one").Set("rollout.min_ready", minReady.String())
	})
	baked(t, s)
	began := time.Now()
	underLoad(t, s, quietRate(), func() { next(t, s, 2, "serving") })
	if took := time.Since(began); took < 3*minReady {
		t.Errorf("three workers were replaced in %s, each was to serve for %s first", took, minReady)
	}
	baked(t, s)

	// The second new one dies: the first had its time, and its place is taken back.
	s.Config.Set("worker.env", map[string]any{"RELEASE": "v3", "DEMO_CRASH_AFTER": (3 * minReady / 2).String()})
	began = time.Now()
	out := reload(t, s, api.ReloadRequest{Label: "v3"})
	if out.Result != api.ResultRolledBack || !strings.Contains(out.Reason, "exit status 3") {
		t.Errorf("outcome %+v", out)
	}
	if took := time.Since(began); took < minReady {
		t.Errorf("it ended after %s", took)
	}
	wait(t, s, "all of v2", func(st api.Status) bool {
		return st.Active.Version.Label == "v2" && working(st) == 3 && len(st.Generations) == 1
	})
	if st := status(t, s); st.LastFailure == nil || st.LastFailure.Version != "v3" {
		t.Errorf("last failure %+v", st.LastFailure)
	}
}

// A service whose workers die again and again is not "serving", also while all of them
// happen to be alive.
func TestCrashLoopIsShown(t *testing.T) {
	t.Parallel()
	s := started(t, func(c service.Config) {
		c.Set("worker.processes", 2).Set("worker.env.DEMO_CRASH_AFTER", "1s").Set("restart.loop", 100).Set("rollout.bake", 0)
	})
	var seen api.Status
	wait(t, s, "both workers alive after two exits", func(st api.Status) bool {
		seen = st
		restarts, alive := 0, 0
		for _, w := range team(st) {
			restarts += w.Restarts
			if w.Phase == "active" {
				alive++
			}
		}
		return restarts >= 2 && alive == 2
	})
	why := strings.Join(seen.Reasons, " ")
	if seen.State != "degraded" || !strings.Contains(why, "times within restart.loop_window (1m0s)") || !strings.Contains(why, "exit status 3") ||
		!strings.Contains(why, "Its last line: ") {
		t.Errorf("%s: %q", seen.State, seen.Reasons)
	}
	cli(t, s, 1, "status")
}

// Failing checks of the version that serves are in the log and in the history: once
// when it turns bad, once when it turns good again.
func TestChecksOfTheServingVersionAreTold(t *testing.T) {
	t.Parallel()
	dir := servicetest.ShortDir(t)
	well, count, check := filepath.Join(dir, "well"), filepath.Join(dir, "count"), filepath.Join(dir, "check")
	for file, text := range map[string]string{well: "", count: "", check: "#!/bin/sh\nprintf x >>" + count + "\ntest -e " + well + "\n"} {
		if err := os.WriteFile(file, []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	checks := func() int64 {
		st, err := os.Stat(count)
		if err != nil {
			t.Fatal(err)
		}
		return st.Size()
	}
	s := started(t, func(c service.Config) {
		delete(c["health"].(map[string]any), "http")
		c.Set("health.command", []string{check}).Set("worker.processes", 2).
			Set("health.active", map[string]any{"interval": "100ms", "failures": 2})
	})
	baked(t, s)
	if err := os.Remove(well); err != nil {
		t.Fatal(err)
	}
	wait(t, s, "both to fail", func(st api.Status) bool {
		return len(st.Reasons) == 1 && strings.HasPrefix(st.Reasons[0], "2 of 2 workers fail their checks") && st.State == "degraded"
	})
	cli(t, s, 1, "status")
	n := checks()
	eventually(t, "more checks to fail", func() bool { return checks() >= n+10 })
	if err := os.WriteFile(well, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	eventually(t, "that it passes them in the history", func() bool {
		return history(t, s, func(e api.Entry) bool { return e.What == "healthy" }) != nil
	})
	entries, err := s.API.History(t.Context(), 100)
	if err != nil {
		t.Fatal(err)
	}
	told := map[string]int{}
	for _, e := range entries {
		told[e.What]++
		if e.What == "unhealthy" && (e.Worker == 0 || !strings.Contains(e.Reason, "failed 2 health checks in a row") || e.Outcome != api.ResultFailed) {
			t.Errorf("%+v", e)
		}
	}
	if told["unhealthy"] != 1 || told["healthy"] != 1 {
		t.Errorf("the history tells %v", told)
	}
	logged := map[string]string{}
	for _, line := range strings.Split(s.Log(1000), "\n") {
		var l struct{ Msg, What, Level string }
		if json.Unmarshal([]byte(line), &l) == nil && l.Msg == "history" {
			logged[l.What] = l.Level
		}
	}
	if logged["unhealthy"] != "warn" || logged["healthy"] != "warn" {
		t.Errorf("the log tells %v", logged)
	}
}

// A rollback to a version that had ended is a rollout with a bake. The end of that
// bake is not when the version came.
func TestSinceIsWhenTheTrafficMoved(t *testing.T) {
	t.Parallel()
	s := started(t, func(c service.Config) { c.Set("worker.env.RELEASE", "v1") })
	baked(t, s)
	first := status(t, s).Active.Version.Label
	next(t, s, 2, "baked")
	wait(t, s, "the first to be gone", func(st api.Status) bool { return len(st.Generations) == 1 })
	s.Config.Set("rollout.bake", "2s")
	next(t, s, 3, "baked") // the bake that a rollback takes is that of the configuration in force
	wait(t, s, "the second to be gone", func(st api.Status) bool { return len(st.Generations) == 1 })
	back(t, s, first)
	at := status(t, s).Active.Since
	baked(t, s)
	if st := status(t, s); !st.Active.Since.Equal(at) {
		t.Errorf("it has the traffic since %s, and is said to have it since %s, when its bake was over", at, st.Active.Since)
	}
}
