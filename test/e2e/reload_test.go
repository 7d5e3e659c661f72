package e2e

import (
	"context"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/test/service"
)

// loadRate is what the strict client asks for, in requests a second: in full what is
// published, and otherwise enough for some to be under way at any time.
func loadRate() int { return times(2000, 250) }

func TestReloadsUnderLoad(t *testing.T) {
	besideOthers(t)
	s := started(t, nil)
	n := times(200, 4)
	res := underLoad(t, s, loadRate(), func() {
		for i := 2; i <= n+1; i++ {
			s.Config.Set("worker.env.RELEASE", label(i))
			if out := reload(t, s, api.ReloadRequest{Label: label(i), Until: "baked"}); out.Result != api.ResultDone {
				t.Fatalf("reload %d: %+v", i, out)
			}
		}
	})
	t.Logf("%d reloads, bake 200 ms:\n%s", n, res)
	if got := len(res.Versions); got != n+1 {
		t.Errorf("%d versions answered, want %d", got, n+1)
	}
}

func TestReloadsAtShippedDefaults(t *testing.T) {
	if !*full {
		t.Skip("takes minutes: make e2e")
	}
	s := started(t, func(c service.Config) { c.Set("rollout.bake", "10s") })
	baked(t, s)
	res := underLoad(t, s, loadRate(), func() {
		for i := 2; i <= 21; i++ {
			s.Config.Set("worker.env.RELEASE", label(i))
			if out := reload(t, s, api.ReloadRequest{Label: label(i), Until: "baked"}); out.Result != api.ResultDone {
				t.Fatalf("reload %d: %+v", i, out)
			}
		}
	})
	t.Logf("20 reloads, bake 10 s:\n%s", res)
}

// breakage is one way in which a version can be bad, and how its refusal must look.
type breakage struct {
	name   string
	env    map[string]string
	set    map[string]any // configuration besides
	result string
	stage  string
	reason string // a part of it
	exit   int
	within time.Duration
	lines  string // a part of the last lines; empty: none wanted
}

var breakages = []breakage{
	{name: "exits at start", env: map[string]string{"DEMO_EXIT": "3", "DEMO_EXIT_MESSAGE": "no database here"}, result: api.ResultFailed, stage: "start", reason: "exit status 3", exit: 1, within: 12 * time.Second, lines: "no database here"},
	{name: "hangs before ready", env: map[string]string{"DEMO_HANG": "1"}, set: map[string]any{"health.start.timeout": "1s"}, result: api.ResultFailed, stage: "start", reason: "1s", exit: 1, within: 10 * time.Second},
	{name: "is unhealthy", env: map[string]string{"DEMO_UNHEALTHY": "1"}, set: map[string]any{"health.start.timeout": "3s"}, result: api.ResultFailed, stage: "check", reason: "500", exit: 1, within: 10 * time.Second},
	{name: "answers everything with 500", env: map[string]string{"DEMO_FAIL": "all"}, set: map[string]any{"health.start.timeout": "3s"}, result: api.ResultFailed, stage: "check", reason: "500", exit: 1, within: 10 * time.Second},
	{name: "one of several is unhealthy", env: map[string]string{"DEMO_UNHEALTHY_ONE": "CLAIM"}, set: map[string]any{"health.start.timeout": "3s", "worker.processes": 3}, result: api.ResultFailed, stage: "check", reason: "500", exit: 1, within: 11 * time.Second},
	{name: "turns bad in its bake", env: map[string]string{"DEMO_UNHEALTHY_AFTER": "500ms"}, set: map[string]any{"rollout.bake": "10s", "health.active.interval": "100ms"}, result: api.ResultRolledBack, stage: "bake", reason: "500", exit: 4, within: 15 * time.Second},
	{name: "is not there", set: map[string]any{"worker.command": []string{"/nonexistent/program"}}, result: api.ResultFailed, stage: "prepare", reason: "/nonexistent/program", exit: 1, within: 9 * time.Second},
}

func TestEverySecondVersionIsBroken(t *testing.T) {
	besideOthers(t)
	s := started(t, nil)
	n := times(200, 2*len(breakages)) // each of them once
	good := s.Config
	res := underLoad(t, s, loadRate(), func() {
		for i := 2; i <= n+1; i++ {
			s.Config = clone(good).Set("worker.env.RELEASE", label(i))
			if i%2 == 1 {
				if out := reload(t, s, api.ReloadRequest{Label: label(i), Until: "baked"}); out.Result != api.ResultDone {
					t.Fatalf("good reload %d: %+v", i, out)
				}
				continue
			}
			b := breakages[i/2%len(breakages)]
			for k, v := range b.env {
				if v == "CLAIM" {
					v = fmt.Sprintf("%s/claim-%d", s.Dir, i)
				}
				s.Config.Set("worker.env."+k, v)
			}
			for k, v := range b.set {
				s.Config.Set(k, v)
			}
			if err := s.Write(); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			begun := time.Now()
			out, code := s.CLI(ctx, "reload", "--label", label(i), "--until", "baked")
			took := time.Since(begun)
			cancel()
			if code != b.exit || !strings.Contains(out, b.reason) || !strings.Contains(out, b.stage) || !strings.Contains(out, b.lines) {
				t.Errorf("a version that %s: exit %d, want %d with stage %q, reason %q, lines %q:\n%s", b.name, code, b.exit, b.stage, b.reason, b.lines, out)
			}
			if took > b.within {
				t.Errorf("a version that %s was refused after %s, want %s", b.name, took, b.within)
			}
		}
	})
	t.Logf("%d reloads, every second one broken:\n%s", n, res)
}

func TestKilledActiveCostsOnlyWhatItHeld(t *testing.T) {
	besideOthers(t)
	s := started(t, nil)
	baked(t, s)
	s.Config.Set("rollout.bake", "1m")
	var gaps []time.Duration
	for i := range times(20, 3) {
		s.Config.Set("worker.env.RELEASE", label(i+2))
		if out := reload(t, s, api.ReloadRequest{Label: label(i + 2)}); out.Result != api.ResultDone {
			t.Fatalf("reload: %+v", out)
		}
		stop := start(t, s, 2000) // many are to be lost, if any is
		pid := loaded(t, s)
		// It stands still while what it holds is counted: it accepts on, on a busy machine.
		if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		held := sockets(t, pid)
		killed := time.Now()
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		if err := s.Wait(t.Context(), 5*time.Second, "the generation before to serve", func(st api.Status) bool {
			return st.Active != nil && st.State == "serving" && st.Active.Version.Label != label(i+2)
		}); err != nil {
			t.Fatal(err)
		}
		res := stop()
		if n := res.Failed(); n > uint64(held) {
			t.Errorf("kill %d: %d requests failed, the worker held %d connections:\n%s", i, n, held, res)
		}
		for version, seen := range res.Versions {
			if version != label(i+2) {
				gaps = append(gaps, seen.First.Sub(killed))
			}
		}
		if len(gaps) != i+1 {
			t.Fatalf("kill %d: who answered after it? %v", i, res.Versions)
		}
		baked(t, s)
	}
	t.Logf("from the kill to the first answer of another version: %v, median %s", gaps, median(gaps))
}
