package e2e

import (
	"strings"
	"testing"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/test/load"
	"github.com/masterd/masterd/test/service"
)

// unjudged is a service whose canary nobody comes to.
func unjudged(t *testing.T, what, maxWait string) (*service.Service, *run) {
	t.Helper()
	s := canary(t, "20%:100ms", "40%:100ms")
	s.Config.Set("rollout.analysis", map[string]any{"delay": "0", "when_inconclusive": what, "max_wait": maxWait})
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	baked(t, s)
	s.Config.Set("worker.env.RELEASE", "v2")
	if err := s.Write(); err != nil {
		t.Fatal(err)
	}
	return s, begin(t, s, "reload", "--label", "v2")
}

// waitsToBeJudged waits until a canary waits for connections, at its last step.
func waitsToBeJudged(t *testing.T, s *service.Service, paused bool) {
	t.Helper()
	wait(t, s, "a canary that waits to be judged", func(st api.Status) bool {
		r := st.Rollout
		return r != nil && r.Step == 2 && r.Inconclusive != "" && (r.Paused != "") == paused && r.Deadline.IsZero() == paused
	})
}

// comeAndGo are clients who are there until the test ends.
func comeAndGo(t *testing.T, s *service.Service) {
	t.Helper()
	clients := load.NewStrangers(s.Addr)
	t.Cleanup(func() {
		if failed, lost := clients.Stop(); failed+lost > 0 {
			t.Errorf("%d requests failed, %d had no answer", failed, lost)
		}
	})
}

// Without enough connections a canary does at its last step what is configured.
func TestCanaryIsInconclusive(t *testing.T) {
	t.Parallel()
	for what, does := range map[string]func(*testing.T, *service.Service, *run){
		"promote": func(t *testing.T, s *service.Service, r *run) {
			if out := r.ended(t, 0); !strings.Contains(out, "step 2 of 2; waits for more connections to be judged by (without enough it goes on), for 1s") ||
				!strings.Contains(out, "too few connections came to judge it by within 1s, its rollout.analysis.max_wait; it goes on without") {
				t.Errorf("%s", out)
			}
			baked(t, s)
			if e := lastReload(t, s); e.Outcome != api.ResultDone || e.Analysis == nil || e.Analysis.Outcome != "inconclusive" {
				t.Errorf("the history has %+v, %+v", e, e.Analysis)
			}
		},
		"rollback": func(t *testing.T, s *service.Service, r *run) {
			if out := r.ended(t, 4); !strings.Contains(out, "was taken back at 40% of new connections, step 2 of 2: too few connections came to judge it by within 1s") {
				t.Errorf("%s", out)
			}
			whole(t, s, 1, status(t, s).Active.Version.Label)
		},
		"pause": func(t *testing.T, s *service.Service, r *run) {
			waitsToBeJudged(t, s, true)
			if out := cli(t, s, 0, "status"); !strings.Contains(out, "paused    by masterd (too few connections came to judge it by") {
				t.Errorf("status says\n%s", out)
			}
			cli(t, s, 0, "resume")
			waitsToBeJudged(t, s, true) // again
			proposed(t, s, 0, "promote")
			if out := r.ended(t, 0); !strings.Contains(out, "`masterd promote` goes on, `masterd resume` waits once more") {
				t.Errorf("%s", out)
			}
			baked(t, s)
			out := cli(t, s, 0, "history")
			if strings.Count(out, " pause ") != 2 {
				t.Errorf("the history has no two pauses\n%s", out)
			}
		},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			s, r := unjudged(t, what, "1s")
			does(t, s, r)
		})
	}
}

// A canary that waits goes on once enough connections have come, under the next master, too.
func TestCanaryIsConclusiveLater(t *testing.T) {
	t.Parallel()
	s, _ := unjudged(t, "rollback", "1h") // whoever asked for it is told that its master has ended
	waitsToBeJudged(t, s, false)
	if out := cli(t, s, 0, "status"); !strings.Contains(out, "step 2 of 2: 40% of new connections") || !strings.Contains(out, "waits at most") {
		t.Errorf("status says\n%s", out)
	}
	s.Kill()
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	waitsToBeJudged(t, s, false)
	cli(t, s, 0, "upgrade")
	waitsToBeJudged(t, s, false)
	comeAndGo(t, s)
	baked(t, s)
	whole(t, s, 2, "v2")
	if e := lastReload(t, s); e.Outcome != api.ResultDone || e.Analysis == nil || e.Analysis.Outcome != "pass" {
		t.Errorf("the history has %+v, %+v", e, e.Analysis)
	}
}
