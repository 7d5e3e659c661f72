package e2e

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/test/load"
	"github.com/masterd/masterd/test/service"
)

// judgedCanary is a service at a canary's only step, whose versions fail so many requests in a
// hundred, with strangers who make them.
func judgedCanary(t *testing.T, act, before, after string) (*service.Service, *run) {
	t.Helper()
	return judgedBy(t, "DEMO_FAIL_PERCENT", act, before, after)
}

// judgedBy is judgedCanary with another variable of the demo's.
func judgedBy(t *testing.T, variable, act, before, after string) (*service.Service, *run) {
	t.Helper()
	s := canary(t, "40%")
	s.Config.Set("rollout.analysis", map[string]any{"act": act, "delay": "0", "alpha": "0.01%",
		"measures": []any{map[string]any{"name": "orders_failed"}}}).
		Set("worker.processes", 2).Set("worker.env."+variable, before)
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	baked(t, s)
	clients := load.NewStrangers(s.Addr)
	t.Cleanup(func() {
		if _, lost := clients.Stop(); lost > 0 {
			t.Errorf("%d requests had no answer", lost)
		}
	})
	s.Config.Set("worker.env."+variable, after).Set("worker.env.RELEASE", "v2")
	if err := s.Write(); err != nil {
		t.Fatal(err)
	}
	r := begin(t, s, "reload", "--label", "v2")
	return s, r
}

// analysed waits until what is compared says so.
func analysed(t *testing.T, s *service.Service, what string, ok func(*api.Analysis) bool) (a *api.Analysis) {
	t.Helper()
	wait(t, s, what, func(st api.Status) bool {
		if st.Rollout == nil || st.Rollout.Analysis == nil {
			return false
		}
		a = st.Rollout.Analysis
		return ok(a)
	})
	return a
}

// lastReload is what the history says of the last one.
func lastReload(t *testing.T, s *service.Service) (last api.Entry) {
	t.Helper()
	eventually(t, "the reload in the history", func() bool {
		var h api.History
		if err := json.Unmarshal([]byte(cli(t, s, 0, "history", "--json")), &h); err != nil {
			t.Fatal(err)
		}
		for _, e := range h.Entries {
			if e.What == "reload" {
				last = e
				return true
			}
		}
		return false
	})
	return last
}

// A version that has more errors is taken back in its first step, and says by what.
func TestCanaryIsJudged(t *testing.T) {
	t.Parallel()
	s, r := judgedCanary(t, "auto", "0", "50")
	r.ended(t, 4)
	if out := r.out.String(); !strings.Contains(out, "step 1 of 1: it has more errors than generation 1: ") {
		t.Errorf("%s", out)
	}
	whole(t, s, 1, status(t, s).Active.Version.Label)
	e := lastReload(t, s)
	if a := e.Analysis; e.Outcome != api.ResultRolledBack || a == nil || a.Outcome != "fail" || a.Evidence < a.Wanted ||
		a.Candidate.WithError == 0 || a.Stable.WithError > 0 || a.Stable.Connections == 0 {
		t.Errorf("the history has %+v, %+v", e, e.Analysis)
	}
}

// With all that is compared acting, a version is taken back by what its program counts.
func TestCanaryIsJudgedByAMeasure(t *testing.T) {
	t.Parallel()
	s, r := judgedBy(t, "DEMO_COUNT_PERCENT", "all", "0", "50")
	r.ended(t, 4)
	if out := r.out.String(); !strings.Contains(out, "step 1 of 1: it has more orders_failed than generation 1: ") {
		t.Errorf("%s", out)
	}
	whole(t, s, 1, status(t, s).Active.Version.Label)
	if a := lastReload(t, s).Analysis; a == nil || a.Outcome != "fail" || a.Candidate.WithError > 0 || len(a.Measures) != 2 ||
		a.Measures[1].Outcome != "fail" || a.Measures[1].Candidate.Hit == 0 || a.Measures[1].Stable.Hit > 0 {
		t.Errorf("the history has %+v", a)
	}
}

// Errors that both versions have are held against neither.
func TestCanaryIsAsBad(t *testing.T) {
	t.Parallel()
	s, r := judgedCanary(t, "auto", "40", "40")
	a := analysed(t, s, "many errors of both", func(a *api.Analysis) bool {
		return a.Candidate.WithError > 50 && a.Stable.WithError > 50
	})
	if a.Outcome != "pass" || a.Evidence >= a.Wanted {
		t.Errorf("%+v", a)
	}
	cli(t, s, 0, "promote")
	r.ended(t, 0)
	baked(t, s)
	if e := lastReload(t, s); e.Outcome != api.ResultDone || e.Analysis == nil || e.Analysis.Outcome != "pass" {
		t.Errorf("the history has %+v, %+v", e, e.Analysis)
	}
}

// A verdict is only told where that is wanted; what it rests on outlives the master.
func TestCanaryIsReported(t *testing.T) {
	t.Parallel()
	s, _ := judgedCanary(t, "report", "0", "20") // whoever asked for it is told that its master has ended
	before := analysed(t, s, "errors of the candidate", func(a *api.Analysis) bool { return a.Candidate.WithError > 0 })
	s.Kill()
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	after := analysed(t, s, "the next master's word", func(*api.Analysis) bool { return true })
	if after.Candidate.WithError < before.Candidate.WithError || after.Stable.Connections < before.Stable.Connections {
		t.Errorf("%+v was known, and the next master knows %+v", before, after)
	}
	cli(t, s, 0, "upgrade")
	failed := analysed(t, s, "the verdict", func(a *api.Analysis) bool { return a.Outcome == "fail" })
	if failed.Candidate.WithError < after.Candidate.WithError {
		t.Errorf("%+v was known before the upgrade, and %+v now", after, failed)
	}
	if st := status(t, s); st.Rollout == nil || st.Rollout.Stage != "canary" {
		t.Fatalf("it did not stay at its step: %+v", st.Rollout)
	}
	out := cli(t, s, 0, "status")
	if !strings.Contains(out, "the new version does worse, evidence ") {
		t.Errorf("status says\n%s", out)
	}
	cli(t, s, 0, "abort")
}
