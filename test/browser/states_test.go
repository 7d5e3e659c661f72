package browser

import (
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/masterd/masterd/pkg/api"
)

func ago(d time.Duration) time.Time { return time.Now().Add(-d) }
func in(d time.Duration) time.Time  { return time.Now().Add(d) }

func version(label, digest string) api.Version {
	return api.Version{ID: digest, Label: label, Digest: "sha256:" + strings.Repeat(digest, 8), Program: "/srv/shop/shop"}
}

func worker(id uint64, phase string, age time.Duration) api.Worker {
	return api.Worker{ID: id, PID: 12000 + int(id), Phase: phase, Since: ago(age), Started: ago(age), Healthy: phase == "active" || phase == "parked",
		InFlight: int64(id % 7), Open: 100 + int64(id), Requests: 48213 * id, Processes: 1, RSS: int64(id) << 22, FDs: 120 + int(id)}
}

// serving is a service that has nothing to do but serve.
func serving() api.Status {
	return api.Status{Schema: api.Schema, Service: "shop", Environment: "production", State: "serving", Now: time.Now(),
		Master: api.Master{PID: 4242, Version: "v1.0.0", Since: ago(291 * time.Hour)},
		Active: &api.Deployment{Generation: 7, Version: version("v1.2.3", "0a1b2c3d"), Since: ago(125 * time.Minute), By: "alice (uid 1000)",
			Why: "fix the basket", Baked: true},
		ConfigFile: "/etc/masterd/shop.yaml",
		Listeners: []api.Listener{{Name: "http", Address: "tcp://0.0.0.0:8080", Steering: "kernel", Queue: 3, QueueLimit: 4096},
			{Name: "debug", Address: "unix:///run/shop/debug.sock?mode=0660&group=www", Steering: "unix", Queue: 118, QueueLimit: 128}},
		Generations: []api.Generation{{ID: 7, Version: version("v1.2.3", "0a1b2c3d"), Phase: "active", Since: ago(125 * time.Minute), Weight: 100, Share: 100,
			Baked: true, Workers: []api.Worker{worker(12, "active", 125*time.Minute), worker(13, "active", 125*time.Minute)}}},
		RollbackTarget: &api.RollbackTarget{Version: "v1.2.2"},
	}
}

// canary is at the second step of three.
func canary(evidence float64) api.Status {
	st := serving()
	old := &st.Generations[0]
	old.Weight, old.Share = 87, 87.5
	for i := range old.Workers {
		old.Workers[i].GivesTo = []uint64{17}
	}
	st.Generations = append(st.Generations, api.Generation{ID: 8, Version: version("v1.3.0", "ffee0011"), Phase: "starting", Since: ago(40 * time.Second),
		Weight: 12, Share: 12.5, Workers: []api.Worker{worker(17, "active", 40*time.Second)}})
	st.Rollout = &api.Rollout{ID: 13, What: "reload", By: "bob (uid 1001)", Why: "hotfix of the checkout", Generation: 8, Version: "v1.3.0",
		Stage: "canary", Since: ago(12 * time.Second), Deadline: in(48 * time.Second), Step: 2,
		Steps: []api.Step{{Weight: 1, Hold: api.Duration(30 * time.Second)}, {Weight: 12.5, Hold: api.Duration(time.Minute)}, {Weight: 50}},
		Analysis: &api.Analysis{Outcome: "inconclusive", Evidence: evidence, Wanted: 100, Candidate: api.Compared{Connections: 52, WithError: 4},
			Stable: api.Compared{Connections: 448, WithError: 3}, WaitsFor: []uint64{17},
			Measures: []api.Measure{{Name: "latency", Outcome: "inconclusive", Evidence: 0.4, Candidate: api.Hit{Connections: 49, Hit: 5},
				Stable: api.Hit{Connections: 430, Hit: 41}, Record: &api.Record{Rollouts: 3, Wanted: 20}},
				{Name: "orders_failed", Outcome: "inconclusive", Candidate: api.Hit{Connections: 52, Hit: 1}, Stable: api.Hit{Connections: 448, Hit: 9}, Evidence: 0.8}}}}
	st.RollbackTarget = &api.RollbackTarget{Generation: 7, Version: "v1.2.3", Warm: true}
	return st
}

const tookBack = "Generation 8 (v1.3.0) was taken back at 12.5% of new connections, step 2 of 3: it has more errors than generation 7: " +
	"6 of its 52 connections had one, 3 of 448 there (evidence 134.2, 100 is enough)"

// rolledBack is after that canary was taken back.
func rolledBack() (api.Status, api.Entry) {
	st := serving()
	st.Generations = append(st.Generations, api.Generation{ID: 8, Version: version("v1.3.0", "ffee0011"), Phase: "draining", Since: ago(4 * time.Second),
		Deadline: in(26 * time.Second), Workers: []api.Worker{{ID: 17, PID: 12017, Phase: "draining", Since: ago(4 * time.Second), Started: ago(time.Minute),
			InFlight: 1, Open: 2, LongestMS: 3100, Requests: 811, Processes: 1, RSS: 61 << 20, FDs: 22}}})
	e := api.Entry{At: ago(4 * time.Second), Rollout: 13, What: "reload", By: "bob (uid 1001)", Why: "hotfix of the checkout", From: 7, To: 8, Version: "v1.3.0",
		Outcome: "rolled-back", Stage: "canary", Reason: tookBack, Worker: 17, N: 105,
		Analysis: &api.Analysis{Outcome: "fail", Evidence: 134.2, Wanted: 100, Candidate: api.Compared{Connections: 52, WithError: 6},
			Stable: api.Compared{Connections: 448, WithError: 3}}}
	st.LastFailure = &e
	return st, e
}

// crashLoop is a worker that dies again and again.
func crashLoop() (api.Status, []api.Entry) {
	st := serving()
	st.State = "degraded"
	st.Reasons = []string{"Workers ended unexpectedly 4 times within restart.loop_window (1m0s). The last one, worker 21, exited: exit status 2. " +
		"Its last line: panic: runtime error: invalid memory address or nil pointer dereference", "Worker 21 is gone; its replacement waits."}
	g := &st.Generations[0]
	g.Workers = []api.Worker{g.Workers[0], {ID: 21, Phase: "backoff", Since: ago(2 * time.Second), Deadline: in(30 * time.Second), Restarts: 4}}
	var all []api.Entry
	for i := range 4 {
		all = append(all, api.Entry{At: ago(time.Duration(2+8*i) * time.Second), What: "crash", By: "masterd", Outcome: "failed", Worker: uint64(21 - i), From: 7,
			Version: "v1.2.3", Reason: fmt.Sprintf("Worker %d of generation 7 (v1.2.3) ended unexpectedly: exit status 2.", 21-i), N: uint64(110 - i)})
	}
	st.LastFailure = &all[0]
	return st, all
}

// past is a history that has begun long ago.
func past() (all []api.Entry) {
	for i := range 40 {
		at := ago(time.Duration(7+90*i) * time.Minute)
		v := fmt.Sprintf("v1.2.%d", 40-i)
		all = append(all, api.Entry{At: at, Rollout: uint64(90 - i), What: "reload", By: "alice (uid 1000)", Why: "the usual", From: uint64(50 - i), To: uint64(51 - i),
			Version: v, Outcome: "done", Began: at.Add(-time.Minute), Switched: at.Add(-50 * time.Second), N: uint64(100 - 2*i)})
	}
	return all
}

const hostileName = `<img src=x onerror="window.ran=1"><script>window.ran=1</script>` + "\u202egnp.exe\x1b[31m\x00"

// hostile has the names of somebody who wants to be more than a name.
func hostile() (api.Status, []api.Entry) {
	st := canary(12)
	long := hostileName + strings.Repeat("W", 3000)
	st.Service, st.Environment, st.Reasons = long, hostileName, []string{hostileName, long}
	st.Active.Version.Label, st.Active.By, st.Active.Why = long, hostileName, long
	st.Rollout.Version, st.Rollout.By, st.Rollout.Why, st.Rollout.Paused = hostileName, long, hostileName, long
	st.Rollout.Analysis.Outcome = hostileName
	st.Listeners[0].Name, st.Listeners[0].Address, st.Listeners[0].Reason = long, long, hostileName
	for i := range st.Generations {
		g := &st.Generations[i]
		g.Version.Label, g.Version.Digest = long, hostileName
		for j := range g.Workers {
			g.Workers[j].Says, g.Workers[j].LastProbe, g.Workers[j].Healthy = long, hostileName, false
		}
	}
	return st, []api.Entry{{At: ago(time.Minute), Rollout: 12, What: hostileName, By: long, Why: hostileName, Version: long, Outcome: hostileName, Reason: long, N: 3},
		{At: ago(2 * time.Minute), Rollout: 11, What: "reload", By: hostileName, Version: long, Outcome: "failed", Stage: hostileName, Reason: hostileName, Worker: 12, N: 2}}
}

// lastHour has a hump, some errors, and a gap as of a master that was away.
func lastHour() recent {
	r := recent{Step: 10}
	for i := range 360 {
		if i > 120 && i < 140 {
			continue
		}
		at := ago(time.Duration(359-i) * 10 * time.Second)
		load := 900 + 500*math.Sin(float64(i)/50) + 80*math.Sin(float64(i)*1.7)
		p := point{At: at.Format(time.RFC3339Nano), P50: 4 + math.Sin(float64(i)/9), P99: 38 + 18*math.Sin(float64(i)/31)}
		p.Requests = [5]uint64{0, uint64(load * 10), uint64(load / 3), uint64(load / 9), 0}
		if i > 340 {
			p.Requests[4], p.P99 = uint64(load*0.2), p.P99*3
		}
		r.Points = append(r.Points, p)
	}
	return r
}
