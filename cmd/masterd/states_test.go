package main

import (
	"fmt"
	"time"

	"github.com/masterd/masterd/pkg/api"
)

// More statuses whose pages are in testdata: what a night can bring.

func rollingTo(st *api.Status, what, stage string, phase string) *api.Generation {
	v := testVersion("v1.3.0", "ffee0011")
	st.Generations = append(st.Generations, api.Generation{ID: 8, Version: v, Phase: phase, Since: ago(2 * time.Second), Deadline: in(58 * time.Second),
		Workers: []api.Worker{{ID: 17, PID: 12017, Phase: phase, Since: ago(2 * time.Second), Started: ago(2 * time.Second), RSS: 41_000_000, FDs: 12}}})
	st.Rollout = &api.Rollout{ID: 13, What: what, By: "bob (uid 1001)", Why: "hotfix", Generation: 8, Version: "v1.3.0", Stage: stage,
		Since: ago(2 * time.Second), Deadline: in(58 * time.Second)}
	st.RollbackTarget = &api.RollbackTarget{Generation: 7, Version: "v1.2.3", Warm: true, Unmoved: true}
	st.Next = []api.Next{{Args: []string{"abort"}, Why: "gives up the " + what + " that is on its way"},
		{Args: []string{"status", "--watch"}, Why: "shows how it goes on"}}
	return &st.Generations[len(st.Generations)-1]
}

// canarying is at the second step of three.
func canarying(st *api.Status, paused string) {
	g := rollingTo(st, "reload", "canary", "starting")
	g.Deadline, g.Since = time.Time{}, ago(40*time.Second)
	g.Workers = []api.Worker{worker(17, "active", 40*time.Second, 15)}
	g.Weight, g.Share = 12, 12.5
	old := &st.Generations[0]
	old.Weight, old.Share = 87, 87.5
	for i := range old.Workers {
		old.Workers[i].GivesTo = []uint64{17}
	}
	st.Rollout.Since, st.Rollout.Deadline = ago(12*time.Second), in(48*time.Second)
	st.Rollout.Steps = []api.Step{{Weight: 1, Hold: api.Duration(30 * time.Second)}, {Weight: 12.5, Hold: api.Duration(time.Minute)}, {Weight: 50}}
	st.Rollout.Step, st.Rollout.Paused = 2, paused
	st.RollbackTarget.Unmoved = false
	st.Next = []api.Next{{Args: []string{"promote"}, Why: "gives v1.3.0 50% of new connections, step 3 of 3"}, canaryAbort(),
		{Args: []string{"pause"}, Why: "stops the clock of its steps"}}
}

func canaryAbort() api.Next {
	return api.Next{Args: []string{"abort"}, Why: "gives up the reload, all new connections go back"}
}

func moreStatuses() map[string]api.Status {
	of := func(change func(*api.Status)) api.Status {
		st := servingStatus()
		change(&st)
		return st
	}
	degraded := func(st *api.Status, why ...string) { st.State, st.Reasons = "degraded", why }
	history := api.Next{Args: []string{"history"}, Why: "how it came to that"}
	kept := &api.RollbackTarget{Version: "v1.2.2"}
	back := api.Next{Args: []string{"rollback"}, Why: kept.String()}
	return map[string]api.Status{
		"preparing": of(func(st *api.Status) {
			rollingTo(st, "reload", "prepare", "starting")
			st.Generations = st.Generations[:1]
		}),
		"checking": of(func(st *api.Status) {
			g := rollingTo(st, "reload", "check", "checking")
			g.Workers[0].LastProbe = "GET /healthz was answered 503 Service Unavailable"
		}),
		"one-by-one": of(func(st *api.Status) {
			g := rollingTo(st, "reload", "min-ready", "active")
			g.Weight, st.Generations[0].Weight = 50, 50
			g.Workers[0].Healthy = true
			st.Generations[0].Workers = st.Generations[0].Workers[:1]
		}),
		"canary": of(func(st *api.Status) { canarying(st, "") }),
		"canary-waits": of(func(st *api.Status) {
			canarying(st, "")
			st.Rollout.Step, st.Rollout.Deadline = 3, time.Time{}
			st.Generations[0].Weight, st.Generations[0].Share = 50, 50
			st.Generations[1].Weight, st.Generations[1].Share = 50, 50
			st.Next = []api.Next{{Args: []string{"promote"}, Why: "gives v1.3.0 all new connections"}, canaryAbort()}
		}),
		"canary-paused": of(func(st *api.Status) {
			canarying(st, "bob (uid 1001) (the queue of the warehouse grows, and nobody knows yet whether it is this version or the sale)")
			st.Rollout.Deadline = time.Time{}
			st.Next = append([]api.Next{{Args: []string{"resume"}, Why: "lets the clock of its steps run again"}}, st.Next[:2]...)
		}),
		"canary-judged-by": of(func(st *api.Status) {
			canarying(st, "")
			st.Rollout.Step, st.Rollout.Steps, st.Rollout.Inconclusive = 2, st.Rollout.Steps[:2], "rollback"
			st.Rollout.Analysis = &api.Analysis{Outcome: "inconclusive", Evidence: 0.7, Wanted: 100,
				Candidate: api.Compared{Connections: 12}, Stable: api.Compared{Connections: 80, WithError: 1}}
			st.Next = append([]api.Next{{Args: []string{"promote"}, Why: "gives v1.3.0 all new connections"}}, st.Next[1:]...)
		}),
		"canary-inconclusive": of(func(st *api.Status) {
			canarying(st, "masterd (too few connections came to judge it by within 15m0s, its rollout.analysis.max_wait)")
			st.Rollout.Step, st.Rollout.Steps, st.Rollout.Inconclusive = 2, st.Rollout.Steps[:2], "pause"
			st.Rollout.Deadline = time.Time{}
			st.Next = []api.Next{{Args: []string{"promote"}, Why: "gives v1.3.0 all new connections"},
				{Args: []string{"resume"}, Why: "waits once more for connections to judge it by"}, canaryAbort()}
		}),
		"canary-overdue": of(func(st *api.Status) {
			canarying(st, "")
			st.Rollout.Deadline = ago(time.Second)
			degraded(st, "Worker 12 fails its checks: GET /healthz was answered 503 Service Unavailable.")
		}),
		"rolling-back": of(func(st *api.Status) { rollingTo(st, "rollback", "start", "starting") }),
		"crash-loop": of(func(st *api.Status) {
			degraded(st, `Workers ended unexpectedly 4 times within restart.loop_window (1m0s). The last one, worker 21, exited: exit status 2. `+
				`Its last line: panic: runtime error: invalid memory address or nil pointer dereference`, "Worker 21 is gone; its replacement waits.")
			st.RollbackTarget = kept
			st.Next = []api.Next{{Args: []string{"logs", "--worker", "21"}, Why: "what worker 21 wrote before it ended"}, back}
			g := &st.Generations[0]
			g.Workers = []api.Worker{g.Workers[0], {ID: 21, Phase: "backoff", Since: ago(2 * time.Second), Deadline: in(3 * time.Second), Restarts: 4}}
		}),
		"disk-full": of(func(st *api.Status) {
			degraded(st, "The history is in memory alone: open history: open /var/lib/masterd/shop/history.jsonl: no space left on device. "+
				"Mend that, and type: masterd upgrade")
			st.LastFailure = &api.Entry{At: ago(3 * time.Minute), What: "reload", By: "bob (uid 1001)", From: 7, To: 8, Version: "v1.2.4", Outcome: "failed", Stage: "save",
				Reason: "Generation 8 (v1.2.4) did not come into service: the state could not be saved: write /var/lib/masterd/shop/state.json: " +
					"no space left on device; generation 7 (v1.2.3) serves on."}
			st.Next = []api.Next{history, {Args: []string{"reload"}, Why: "tries again what is on disk, once it is mended"}}
		}),
		"waits": of(func(st *api.Status) {
			st.FileDiffers = "the program on disk is not the one that runs; `masterd reload` rolls over to it"
			st.Waits = &api.Waiting{By: "the file watch", Until: in(24 * time.Second), Why: "cooldown"}
			st.Next = []api.Next{{Args: []string{"abort"}, Why: "gives up the automatic reload that waits"}, {Args: []string{"reload"}, Why: "runs what is on disk now"}}
		}),
		"waits-for-a-person": func() api.Status {
			st := bakingStatus()
			st.Waits = &api.Waiting{By: "the file watch", Why: "reload 12 of root for alice (new basket) is not baked yet"}
			return st
		}(),
		"file-differs": of(func(st *api.Status) {
			st.FileDiffers = "worker.env changed on disk since it was loaded (3 keys in all); `masterd reload` takes it over"
			st.Next = []api.Next{{Args: []string{"reload"}, Why: "runs what is on disk now"}}
		}),
		"start-failed": func() api.Status {
			st := nothingAliveStatus()
			st.LastFailure.Stage, st.LastFailure.To = "check", 3
			st.LastFailure.Reason = "Generation 3 (v1.2.3) did not come into service: worker 3 never spoke to masterd; it listens on :8081; nobody serves yet, masterd tries again."
			return st
		}(),
		"upgraded": of(func(st *api.Status) {
			st.Master.Since, st.Master.Version, st.Master.Keeper = ago(9*time.Second), "v1.1.0", 4210
		}),
		"upgrade-failed": of(func(st *api.Status) {
			degraded(st, "masterd v1.1.0 was to take over and died; v1.0.0 runs in its place.")
			st.Master.Restored = "v1.1.0"
		}),
		"without-sdk": of(func(st *api.Status) {
			for i := range st.Generations[0].Workers {
				w := &st.Generations[0].Workers[i]
				w.Uncounted, w.InFlight, w.Open, w.Requests, w.Processes, w.Says = true, 0, 0, 0, 5, "Processing requests..."
			}
			st.Listeners = st.Listeners[:1]
			st.Listeners[0].Steering, st.Listeners[0].Reason = "shared", "workers bind it themselves"
		}),
		"nobody-listens": of(func(st *api.Status) {
			st.Listeners = nil
			for i := range st.Generations[0].Workers {
				st.Generations[0].Workers[i].Open, st.Generations[0].Workers[i].InFlight = 0, 0
			}
		}),
		"stopping": of(func(st *api.Status) {
			st.State = "stopping"
			g := &st.Generations[0]
			g.Phase, g.Since, g.Deadline, g.Weight = "draining", ago(4*time.Second), in(56*time.Second), 0
			for i := range g.Workers {
				g.Workers[i].Phase, g.Workers[i].LongestMS = "draining", 41_000
			}
		}),
		"sixty-four": of(func(st *api.Status) {
			g := &st.Generations[0]
			g.Workers = nil
			for i := range uint64(64) {
				w := worker(200+i, "active", 3*time.Hour, 40)
				if i%9 == 3 {
					w.Healthy, w.LastProbe = false, fmt.Sprintf("GET /healthz was answered 50%d", i%2)
				}
				g.Workers = append(g.Workers, w)
			}
			degraded(st, "7 of 64 workers fail their checks.")
			st.Next = fails(203)
		}),
	}
}
