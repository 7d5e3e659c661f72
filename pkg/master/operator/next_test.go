package operator

import (
	"strings"
	"testing"
	"time"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/pkg/master/config"
	"github.com/masterd/masterd/pkg/master/rollout"
)

// What is proposed is right in the state: the likeliest first, at most three, none that would
// be refused.
func TestNext(t *testing.T) {
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	warm := rollout.Target{Generation: 1, Version: rollout.Version{Label: "v1"}, Warm: true}
	nowhere := rollout.Target{Refused: "no other version is parked or kept"}
	due := warm
	due.Due = now.Add(8 * time.Second)
	failed := &rollout.Entry{Rollout: 2, What: "reload", Code: rollout.Failed}
	with := func(ws ...api.Worker) []api.Generation { return []api.Generation{{ID: 2, Workers: ws}} }
	well, sick := api.Worker{ID: 4, Phase: "active", Healthy: true}, api.Worker{ID: 5, Phase: "active"}
	gone := api.Worker{ID: 6, Phase: "backoff"}
	loop := []rollout.GenerationStatus{{ID: 2, Window: time.Minute, Exits: []time.Time{now.Add(-2), now.Add(-1)}, Ended: rollout.Ending{Worker: 9}}}
	canarying := func(step int, left time.Duration, paused string) rollout.Status {
		r := &rollout.RolloutStatus{What: "reload", Stage: rollout.StageCanary, Step: step, Paused: paused, Steps: []rollout.Step{{Weight: 1}, {Weight: 5000}}}
		if left > 0 {
			r.Deadline = now.Add(left)
		}
		return rollout.Status{Serving: true, Active: 2, Target: warm, Rollout: r}
	}
	inconclusive := canarying(2, 0, "masterd")
	inconclusive.Rollout.Awaits = rollout.InconclusivePause
	pausedEarly := canarying(0, 0, "bob")
	pausedEarly.Rollout.Stage = rollout.StageCheck
	for name, x := range map[string]struct {
		st      rollout.Status
		workers []api.Generation
		differs string
		broken  bool
		want    string
	}{
		"serving":           {st: rollout.Status{Serving: true, Active: 2, Target: nowhere}, workers: with(well)},
		"stopping":          {st: rollout.Status{Stopping: true, LastFailure: failed, Hold: "x"}},
		"the file differs":  {st: rollout.Status{Serving: true, Active: 2, Target: nowhere}, differs: "x", want: "reload"},
		"it is held":        {st: rollout.Status{Serving: true, Active: 2, Target: warm, Hold: "x"}, differs: "x", want: "unhold"},
		"the file is bad":   {st: rollout.Status{Serving: true, Active: 2, Target: nowhere}, differs: "x", broken: true, want: "check --config /etc/shop.yaml"},
		"a reload failed":   {st: rollout.Status{Serving: true, Active: 2, Target: nowhere, LastFailure: failed}, want: "history, reload"},
		"failed and held":   {st: rollout.Status{Serving: true, Active: 2, Target: nowhere, LastFailure: failed, Hold: "x"}, want: "unhold, history"},
		"baking":            {st: rollout.Status{Serving: true, Active: 2, Target: warm, Rollout: &rollout.RolloutStatus{What: "reload", Stage: rollout.StageBake}}, want: "promote, rollback"},
		"a first bake":      {st: rollout.Status{Serving: true, Active: 2, Target: nowhere, Rollout: &rollout.RolloutStatus{What: "start", Stage: rollout.StageBake}}, want: "promote"},
		"a confirm":         {st: rollout.Status{Serving: true, Active: 2, Target: due, Rollout: &rollout.RolloutStatus{What: "reload", Stage: rollout.StageConfirm}}, want: "promote, rollback"},
		"on its way":        {st: rollout.Status{Serving: true, Active: 2, Target: warm, Rollout: &rollout.RolloutStatus{What: "reload", Stage: rollout.StageCheck}}, want: "abort, status --watch"},
		"a canary":          {st: canarying(1, time.Minute, ""), want: "promote, abort, pause"},
		"a canary waits":    {st: canarying(2, 0, ""), want: "promote, abort"},
		"a canary paused":   {st: canarying(1, 0, "bob"), want: "resume, promote, abort"},
		"one unjudged":      {st: inconclusive, want: "promote, resume, abort"},
		"paused before it":  {st: pausedEarly, want: "resume, abort"},
		"one fails":         {st: rollout.Status{Serving: true, Active: 2, Target: warm}, workers: with(well, sick), want: "logs --worker 5, rollback"},
		"all fail, nowhere": {st: rollout.Status{Serving: true, Active: 2, Target: nowhere}, workers: with(sick, sick), want: "logs --worker 5"},
		"one is gone":       {st: rollout.Status{Serving: true, Active: 2, Target: warm}, workers: with(well, gone), want: "logs --worker 6, rollback"},
		"a loop":            {st: rollout.Status{Serving: true, Active: 2, Target: warm, Generations: loop}, workers: with(gone), want: "logs --worker 9, rollback, logs --worker 6"},
		"down":              {st: rollout.Status{Target: nowhere, LastFailure: failed}, want: "logs -n 100, history, reload"},
		"down, kept":        {st: rollout.Status{Target: rollout.Target{Version: rollout.Version{Label: "v0"}}, LastFailure: failed, Rollout: &rollout.RolloutStatus{What: "start", Stage: rollout.StageCheck}}, want: "logs -n 100, rollback, history"},
		"starting":          {st: rollout.Status{Target: nowhere, Rollout: &rollout.RolloutStatus{What: "start", Stage: rollout.StageStart}}, want: "logs -n 100"},
	} {
		s := api.Status{Now: now, ConfigFile: "/etc/shop.yaml", Generations: x.workers, FileDiffers: x.differs, RollbackTarget: target(x.st.Target),
			Active: &api.Deployment{Version: api.Version{Label: "v2"}}}
		var got []string
		for _, n := range next(x.st, s, x.broken) {
			got = append(got, strings.Join(n.Args, " "))
			if n.Why == "" {
				t.Errorf("%s: %v has no reason", name, n.Args)
			}
		}
		if g := strings.Join(got, ", "); g != x.want {
			t.Errorf("%s: %s, want %s", name, g, x.want)
		}
	}
}

// A file that was tried and has not stayed is not proposed as if it were new.
func TestOnDiskIsWhatFailed(t *testing.T) {
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	at := now.Add(-10 * time.Second)
	one, other := &config.Config{Service: "shop"}, &config.Config{Service: "stop"}
	last := tried{rollout: 5, config: one, digest: "new"}
	entry := func(id rollout.Rollout, what string, c rollout.Code) *rollout.Entry {
		return &rollout.Entry{At: at, Rollout: id, What: what, Code: c, Version: rollout.Version{Digest: "new"}}
	}
	for name, x := range map[string]struct {
		tried  tried
		st     rollout.Status
		file   *config.Config
		digest string
		want   string // on its way: nothing is said
	}{
		"failed":              {last, rollout.Status{Last: entry(5, "reload", rollout.Failed)}, one, "new", "failed 10s ago"},
		"rolled back":         {last, rollout.Status{Last: entry(5, "reload", rollout.RolledBack)}, one, "new", "was rolled back 10s ago"},
		"given up":            {last, rollout.Status{Last: entry(5, "reload", rollout.Superseded)}, one, "new", "was given up 10s ago"},
		"to a kept one":       {last, rollout.Status{Last: entry(6, "rollback", rollout.Done)}, one, "new", "was rolled back 20s ago"},
		"which bakes":         {last, rollout.Status{Last: entry(5, "reload", rollout.Done), Rollout: &rollout.RolloutStatus{ID: 6, What: "rollback"}}, one, "new", "was rolled back 20s ago"},
		"not prepared":        {tried{rollout: 5, config: one}, rollout.Status{Last: entry(5, "reload", rollout.Failed)}, one, "new", "failed 10s ago"},
		"mended program":      {last, rollout.Status{Last: entry(5, "reload", rollout.Failed)}, one, "newer", ""},
		"mended file":         {last, rollout.Status{Last: entry(5, "reload", rollout.Failed)}, other, "new", ""},
		"on its way":          {last, rollout.Status{Last: entry(4, "reload", rollout.Failed), Rollout: &rollout.RolloutStatus{ID: 5, What: "reload"}}, one, "new", "on its way"},
		"changed meanwhile":   {last, rollout.Status{Last: entry(4, "reload", rollout.Failed), Rollout: &rollout.RolloutStatus{ID: 5, What: "reload"}}, other, "new", ""},
		"the next is":         {last, rollout.Status{Last: entry(5, "reload", rollout.Failed), Rollout: &rollout.RolloutStatus{ID: 6, What: "reload"}}, one, "new", ""},
		"nothing was tried":   {tried{}, rollout.Status{}, one, "new", ""},
		"by another master":   {tried{}, rollout.Status{LastFailure: entry(5, "reload", rollout.Failed)}, one, "new", "failed 10s ago"},
		"another one's other": {tried{}, rollout.Status{LastFailure: entry(5, "reload", rollout.Failed)}, one, "newer", ""},
	} {
		got, known := x.tried.again(x.st, x.file, x.digest, now.Add(-20*time.Second), now)
		if known != (x.want != "") {
			t.Errorf("%s: it is known: %v", name, known)
		}
		if x.want == "on its way" {
			x.want = ""
		}
		if want := "on disk is what " + x.want + "; `masterd reload` would try it again"; x.want != "" && got != want || x.want == "" && got != "" {
			t.Errorf("%s: %q, want %q", name, got, x.want)
		}
	}
}
