package main

import (
	"fmt"
	"maps"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/masterd/masterd/pkg/api"
)

// The statuses whose pages are in testdata. Each is what the one before it,
// changed.

func ago(d time.Duration) time.Time { return noon().Add(-d) }
func in(d time.Duration) time.Time  { return noon().Add(d) }

func testVersion(label, digest string) api.Version {
	return api.Version{ID: label + "-id", Label: label, Digest: "sha256:" + strings.Repeat(digest, 8)}
}

func worker(id uint64, phase string, age time.Duration, open int64) api.Worker {
	return api.Worker{
		ID: id, PID: 12000 + int(id), Phase: phase, Since: ago(age), Started: ago(age), Healthy: true,
		InFlight: open / 10, Open: open, Requests: 1000 * id, RSS: 47_400_000 + int64(id)*1_000_000, FDs: 14 + int(open),
	}
}

func servingStatus() api.Status {
	v := testVersion("v1.2.3", "0a1b2c3d")
	return api.Status{
		Schema: 1, Service: "shop", State: "serving", Now: noon(), ConfigFile: "/etc/masterd/shop.yaml",
		Master: api.Master{PID: 4242, Version: "v1.0.0", Since: ago(12*24*time.Hour + 3*time.Hour),
			Cgroup: "/sys/fs/cgroup/system.slice/masterd@shop.service/masterd-0a1b2c3d4e5f"},
		Active: &api.Deployment{Generation: 7, Version: v, Since: ago(2*time.Hour + 5*time.Minute), By: "alice (uid 1000)", Why: "fix the basket", Baked: true},
		Listeners: []api.Listener{
			{Name: "http", Address: "tcp://0.0.0.0:8080", Steering: "kernel", Queue: 0, QueueLimit: 4096},
			{Name: "debug", Address: "unix:///run/shop/debug.sock?mode=0660&group=www", Steering: "unix", Queue: 3, QueueLimit: 128},
		},
		Generations: []api.Generation{{
			ID: 7, Version: v, Phase: "active", Since: ago(2*time.Hour + 5*time.Minute), Weight: 100, Baked: true,
			Workers: []api.Worker{worker(12, "active", 2*time.Hour+5*time.Minute, 120), worker(13, "active", 2*time.Hour+5*time.Minute, 118)},
		}},
	}
}

func bakingStatus() api.Status {
	st := servingStatus()
	st.RollbackTarget = &api.RollbackTarget{Generation: 7, Version: "v1.2.3", Warm: true}
	st.Next = []api.Next{
		{Args: []string{"promote"}, Why: "ends the bake of v1.3.0 now, as passed"}, {Args: []string{"rollback"}, Why: st.RollbackTarget.String()},
	}
	v := testVersion("v1.3.0", "ffee0011")
	st.Environment = "production"
	st.Blobs = []api.Blob{
		{Name: "model", Size: 48 << 20, Generation: 7, Since: ago(2 * time.Hour)},
		{Name: "sessions", Size: 1234, Generation: 8, Since: ago(time.Second), Persist: true},
	}
	st.Active = &api.Deployment{Generation: 8, Version: v, Since: ago(125 * time.Second), By: "root for alice", Why: "new basket"}
	old := &st.Generations[0]
	old.Phase, old.Since, old.Weight = "parked", ago(125*time.Second), 0
	for i := range old.Workers {
		old.Workers[i].Phase, old.Workers[i].Open, old.Workers[i].InFlight = "parked", 0, 0
	}
	st.Generations = append(st.Generations, api.Generation{
		ID: 8, Version: v, Phase: "active", Since: ago(125 * time.Second), Weight: 100,
		Workers: []api.Worker{worker(17, "active", 126*time.Second, 121), worker(18, "active", 126*time.Second, 117)},
		Recent:  &api.Recent{Requests: [5]uint64{1: 41_220, 3: 17, 4: 3}, P50MS: 2.4817, P99MS: 31.02},
	})
	st.Rollout = &api.Rollout{
		ID: 12, What: "reload", By: "root for alice", Why: "new basket", Generation: 8, Version: "v1.3.0", Stage: "bake",
		Since: ago(125 * time.Second), Deadline: in(175 * time.Second),
	}
	return st
}

func degradedStatus() api.Status {
	st := servingStatus()
	st.RollbackTarget = &api.RollbackTarget{Version: "v1.2.2"}
	st.Next = []api.Next{
		{Args: []string{"logs", "--worker", "13"}, Why: "what worker 13 writes, which fails its checks"},
		{Args: []string{"rollback"}, Why: st.RollbackTarget.String()},
		{Args: []string{"history"}, Why: "how it came to that"},
	}
	st.State = "degraded"
	st.Reasons = []string{
		"Worker 13 fails its checks: GET /healthz was answered 500 Internal Server Error, and it wanted 200.",
		"Worker 14 is gone; its replacement waits.",
	}
	st.Master.Cgroup, st.Master.NoCgroup = "", "mkdir /sys/fs/cgroup/masterd-0a1b2c3d4e5f: read-only file system"
	st.FileDiffers = "the program on disk is not the one that runs; `masterd reload` rolls over to it"
	st.Listeners[0].Queue, st.Listeners[0].Drift = 4096, 2
	st.Listeners[1].Steering, st.Listeners[1].Reason = "shared", "the kernel does not let us attach a program to this socket (EOPNOTSUPP), so that workers share one; foreign workers cannot be parked"
	w := st.Generations[0].Workers
	w[1].Healthy, w[1].LastProbe = false, "GET /healthz was answered 500 Internal Server Error"
	w[0].Dropped = 131_072
	st.Generations[0].Workers = append(w, api.Worker{ID: 14, Phase: "backoff", Since: ago(3 * time.Second), Deadline: in(7 * time.Second), Restarts: 4})
	st.LastFailure = &api.Entry{
		At: ago(10 * time.Minute), What: "reload", By: "bob (uid 1001)", Why: "hotfix", From: 7, To: 8, Version: "v1.2.4", Outcome: "failed", Stage: "check",
		Reason: "worker 15 of generation 8 (v1.2.4) answered 503 Service Unavailable to GET /healthz three times in a row; the last answer began with \"no database: dial tcp 10.0.0.5:5432: connect: connection refused\"",
	}
	return st
}

func drainingStatus() api.Status {
	st := servingStatus()
	old := testVersion("v1.2.2", "99887766")
	g := api.Generation{
		ID: 6, Version: old, Phase: "draining", Since: ago(10 * time.Second), Deadline: in(4*time.Minute + 50*time.Second), Baked: true,
		Workers: []api.Worker{worker(10, "draining", 26*time.Hour, 7), worker(11, "killed", 26*time.Hour, 1)},
	}
	g.Workers[1].Deadline = ago(2 * time.Second)
	g.Workers[0].GivesTo = []uint64{12, 13}
	st.Generations = append([]api.Generation{g}, st.Generations...)
	st.Hold = &api.Hold{Reason: "exam week: whoever deploys now answers the telephone, all of it, until Friday evening when the last results are in", By: "bob (uid 1001)"}
	st.Next = []api.Next{{Args: []string{"unhold"}, Why: "reloads are allowed again"}}
	return st
}

// threeDrainingStatus: each with what it has left, and its own deadline.
func threeDrainingStatus() api.Status {
	st := servingStatus()
	st.Hold, st.Next = nil, nil
	var all []api.Generation
	for i, label := range []string{"v1.2.0", "v1.2.1", "v1.2.2"} {
		left := time.Duration(i*100+20) * time.Second
		w := worker(uint64(7+i), "draining", 26*time.Hour, int64(30*i+12))
		w.LongestMS = 1000 * int64(90-40*i)
		w.Deadline = in(left)
		all = append(all, api.Generation{
			ID: uint64(4 + i), Version: testVersion(label, "99887766"), Phase: "draining", Since: ago(5*time.Minute - left), Deadline: in(left), Baked: true,
			Workers: []api.Worker{w},
		})
	}
	oldest := &all[0]
	oldest.Phase, oldest.Since, oldest.Deadline = "stopping", ago(600*time.Millisecond), in(4400*time.Millisecond)
	w := &oldest.Workers[0]
	w.Phase, w.Open, w.InFlight, w.Deadline = "stopping", 0, 0, oldest.Deadline
	w.Cut = &api.Cut{Connections: 12, Requests: 3, LongestMS: 92_400, MedianMS: 1250}
	st.Generations = append(all, st.Generations...)
	st.LastCut = &api.Entry{
		At: ago(3 * time.Minute), What: "cut", From: 3, To: 3, Version: "v1.1.9", Outcome: "failed", Worker: 6,
		Reason: "Worker 6 of generation 3 (v1.1.9) was stopped, as too many generations are draining; 41 connections and 2 requests were cut, the longest after 9.2s (as of its last beat).",
		Cut:    &api.Cut{Connections: 41, Requests: 2, LongestMS: 9200, LastBeat: true},
	}
	return st
}

// announcedStatus: everything serves, and is about to stop.
func announcedStatus() api.Status {
	st := servingStatus()
	st.State, st.Drains = "stopping", in(7*time.Second)
	st.Reasons = []string{"Announced: workers serve on and answer readiness checks with 503; they drain in 7s."}
	return st
}

func nothingAliveStatus() api.Status {
	st := servingStatus()
	st.State, st.Active, st.Generations = "down", nil, nil
	st.RollbackTarget = &api.RollbackTarget{Refused: "no other version is parked or kept"}
	st.Next = []api.Next{{Args: []string{"logs", "-n", "100"}, Why: "what the workers wrote"}, {Args: []string{"reload"}, Why: "runs what is on disk now"}}
	st.Reasons = []string{"No live worker has the traffic."}
	st.LastFailure = &api.Entry{
		At: ago(4 * time.Second), What: "start", By: "masterd", To: 1, Version: "v1.2.3", Outcome: "failed", Stage: "start",
		Reason: "worker 1 exited with status 1 before it was ready",
	}
	return st
}

func startingStatus() api.Status {
	st := nothingAliveStatus()
	st.State, st.Reasons, st.LastFailure = "starting", nil, nil
	st.Next = st.Next[:1]
	v := testVersion("v1.2.3", "0a1b2c3d")
	st.Generations = []api.Generation{{
		ID: 1, Version: v, Phase: "starting", Since: ago(4 * time.Second), Deadline: in(56 * time.Second),
		Workers: []api.Worker{{ID: 1, PID: 12001, Phase: "checking", Since: ago(time.Second), Started: ago(4 * time.Second), LastProbe: "GET /healthz: connection refused", RSS: 1023, FDs: 9}},
	}}
	st.Rollout = &api.Rollout{ID: 1, What: "start", By: "masterd", Generation: 1, Version: "v1.2.3", Stage: "check", Since: ago(time.Second), Deadline: in(56 * time.Second)}
	return st
}

// hostileStatus has long names, wide ones, and ones that mean harm.
func hostileStatus() api.Status {
	st := bakingStatus()
	st.Service = "a-service-with-a-name-as-long-as-it-can-be"
	label := "v2.0.0-rc.1+build.20260304.sha.0123456789abcdef-this-goes-on-for-quite-a-while-\x1b]0;owned\x07"
	st.Active.Version.Label = label
	st.RollbackTarget.Version = label
	st.Next[0] = api.Next{Args: []string{"check", "--config", "/srv/'\x1b[2J it\u202e/" + strings.Repeat("x", 120)}, Why: label}
	st.LastFailure = &api.Entry{At: ago(time.Second), What: "reload", By: st.Active.By, Why: label, To: 1 << 63, Version: label, Outcome: "failed", Reason: label}
	st.Active.By = "root for \x1b[31mmallory\u202e"
	st.Active.Why = "買い物かごを直す 買い物かごを直す 買い物かごを直す 買い物かごを直す 買い物かごを直す 買い物かごを直す\x9b2J"
	st.Generations[1].Version.Label = label
	st.Rollout.Version, st.Rollout.Why = label, "line one\nline two\r\x1b[1A over line one\xff"
	st.Listeners[0].Name = "a-listener-whose-name-is-longer-than-anybody-needs"
	st.Listeners[0].Address = "tcp6://[2001:0db8:85a3:0000:0000:8a2e:0370:7334]:65535"
	st.Listeners[1].Address = "unix:///" + strings.Repeat("very/deep/", 12) + "debug.sock"
	st.ConfigFile = "/srv/" + strings.Repeat("x", 120) + "/shop.yaml"
	w := &st.Generations[1].Workers[0]
	w.ID, w.PID, w.InFlight, w.Open, w.Requests, w.RSS, w.FDs, w.Restarts = 18446744073709551615>>1, 4194304, 123456, 9999999, 1<<63, 1<<44, 1048576, 12345
	return st
}

func sixteenStatus() api.Status {
	st := servingStatus()
	g := &st.Generations[0]
	g.Workers = nil
	for i := range uint64(16) {
		g.Workers = append(g.Workers, worker(100+i, "active", time.Duration(i)*7*time.Hour, int64(i*i*37)))
	}
	g.Workers[5].Phase, g.Workers[5].Healthy, g.Workers[5].LastProbe, g.Workers[5].Deadline = "starting", false, "", in(30*time.Second)
	return st
}

// fails is what is proposed where a worker fails its checks.
func fails(worker uint64) []api.Next {
	n := strconv.FormatUint(worker, 10)
	return []api.Next{{Args: []string{"logs", "--worker", n}, Why: "what worker " + n + " writes, which fails its checks"}}
}

// confirmStatus: it goes back by itself.
func confirmStatus() api.Status {
	st := bakingStatus()
	st.Rollout.Stage, st.Rollout.Deadline = "confirm", in(8*time.Second)
	st.RollbackTarget.Due = in(8 * time.Second)
	st.Next = []api.Next{
		{Args: []string{"promote"}, Why: "keeps v1.3.0, which is taken back otherwise"},
		{Args: []string{"rollback"}, Why: st.RollbackTarget.String()},
	}
	return st
}

// rolledBackStatus: what failed is still on disk.
func rolledBackStatus() api.Status {
	st := servingStatus()
	st.FileDiffers = "on disk is what was rolled back 10s ago; `masterd reload` would try it again"
	st.LastFailure = &api.Entry{
		At: ago(10 * time.Second), What: "reload", By: "bob (uid 1001)", From: 7, To: 8, Version: "v1.2.4", Outcome: "rolled-back", Stage: "bake",
		Reason: "Generation 8 (v1.2.4) was rolled back to generation 7 (v1.2.3): worker 15 of generation 8 (v1.2.4) exited: exit status 2.",
	}
	st.Next = []api.Next{
		{Args: []string{"history"}, Why: "how it came to that"}, {Args: []string{"reload"}, Why: "tries again what is on disk, once it is mended"},
	}
	return st
}

// brokenFileStatus: reloads are refused until it is mended.
func brokenFileStatus() api.Status {
	st := servingStatus()
	st.FileDiffers = "the configuration on disk cannot be used: /etc/masterd/my shop.yaml:3: servce is no key; did you mean service?"
	st.Next = []api.Next{{Args: []string{"check", "--config", "/etc/masterd/my shop.yaml"}, Why: "what is wrong in the file; nothing can be reloaded until it is mended"}}
	return st
}

// allSickStatus: twenty workers say the same, and one is apart.
func allSickStatus() api.Status {
	st := sixteenStatus()
	st.State = "degraded"
	st.Reasons = []string{"20 of 20 workers fail their checks: GET /healthz was answered 503 Service Unavailable."}
	st.Next = fails(100)
	g := &st.Generations[0]
	for i := range uint64(4) {
		g.Workers = append(g.Workers, worker(116+i, "active", 3*time.Hour, 12))
	}
	for i := range g.Workers {
		w := &g.Workers[i]
		w.Phase, w.Healthy, w.LastProbe = "active", false, "GET /healthz was answered 503 Service Unavailable"
	}
	return st
}

// oneSickStatus: one of twenty is apart, and another has something of its own to say.
func oneSickStatus() api.Status {
	st := allSickStatus()
	st.Reasons = []string{"Worker 107 fails its checks: GET /healthz was answered 503 Service Unavailable."}
	st.Next = fails(107)
	for i := range st.Generations[0].Workers {
		w := &st.Generations[0].Workers[i]
		if w.ID != 107 {
			w.Healthy, w.LastProbe = true, ""
		}
	}
	st.Generations[0].Workers[2].Dropped = 12
	return st
}

func statuses() map[string]api.Status {
	all := map[string]api.Status{
		"all-sick": allSickStatus(), "one-sick": oneSickStatus(), "confirm": confirmStatus(), "rolled-back": rolledBackStatus(), "broken-file": brokenFileStatus(),
		"serving": servingStatus(), "baking": bakingStatus(), "degraded": degradedStatus(), "draining-held": drainingStatus(),
		"draining-three": threeDrainingStatus(),
		"nothing-alive":  nothingAliveStatus(), "starting": startingStatus(), "hostile": hostileStatus(), "sixteen": sixteenStatus(),
		"announced": announcedStatus(),
		"ending":    {State: "stopping", Now: noon()},
	}
	maps.Copy(all, moreStatuses())
	return all
}

func TestPages(t *testing.T) {
	for name, st := range statuses() {
		t.Run(name, func(t *testing.T) {
			var b strings.Builder
			for _, width := range []int{80, pageColumns, maxColumns} {
				fmt.Fprintf(&b, "%s %d\n", strings.Repeat("=", width-4), width)
				if err := render(&b, st, width, false); err != nil {
					t.Fatal(err)
				}
			}
			golden(t, "status/"+name+".txt", b.String())
		})
	}
}

// sgr is the only thing that a page may say to a terminal.
var sgr = regexp.MustCompile("\x1b\\[[0-9;]*m")

func TestPagesFitAndAreHarmless(t *testing.T) {
	for name, st := range statuses() {
		for _, width := range []int{20, 40, 60, 72, 80, 100, 200} {
			for _, colour := range []bool{false, true} {
				var b strings.Builder
				if err := render(&b, st, width, colour); err != nil {
					t.Fatal(err)
				}
				text := b.String()
				if colour {
					text = sgr.ReplaceAllString(text, "")
				} else if strings.Contains(text, "\x1b") {
					t.Fatalf("%s is coloured", name)
				}
				if clean := cleanLines(text); clean != text {
					t.Fatalf("%s at %d columns could harm a terminal: %q", name, width, text)
				}
				for n, l := range strings.Split(text, "\n") {
					if columns(l) > max(width, 40) {
						t.Errorf("%s at %d columns: line %d has %d: %q", name, width, n+1, columns(l), l)
					}
					if strings.TrimRight(l, " ") != l {
						t.Errorf("%s at %d columns: line %d ends in spaces: %q", name, width, n+1, l)
					}
				}
			}
		}
	}
}

func TestColouredPageSaysTheSame(t *testing.T) {
	var with, without strings.Builder
	render(&with, degradedStatus(), pageColumns, true)
	render(&without, degradedStatus(), pageColumns, false)
	if !strings.Contains(with.String(), "\x1b[") {
		t.Error("there is no colour")
	}
	if sgr.ReplaceAllString(with.String(), "") != without.String() {
		t.Error("without its colours it is not the plain page")
	}
}

func Example_span() {
	for _, d := range []time.Duration{-time.Second, 0, 400 * time.Millisecond, 59 * time.Second, time.Minute, 61 * time.Second, time.Hour, 25 * time.Hour, 400 * 24 * time.Hour} {
		fmt.Print(span(d), ", ")
	}
	// Output: 0s, 0s, 0s, 59s, 1m, 1m 1s, 1h, 1d 1h, 400d,
}

// A command that is proposed means the service that was asked, however it was named.
func TestProposedCommandsNameTheService(t *testing.T) {
	for _, x := range []struct {
		which []string
		want  []string
	}{
		{nil, []string{"masterd rollback  ", "masterd check --config '/etc/my shop.yaml'  "}},
		{[]string{"--service", "shop"}, []string{"masterd rollback --service shop  ", "masterd check --config '/etc/my shop.yaml'  "}},
		{[]string{"--config", "it's.yaml"}, []string{`masterd rollback --config 'it'\''s.yaml'  `}},
	} {
		st := servingStatus()
		st.Next = []api.Next{{Args: []string{"rollback"}, Why: "x"}, {Args: []string{"check", "--config", "/etc/my shop.yaml"}, Why: "y"}}
		var b strings.Builder
		if err := render(&b, st, pageColumns, false, x.which...); err != nil {
			t.Fatal(err)
		}
		for _, w := range x.want {
			if !strings.Contains(b.String(), w) {
				t.Errorf("%v: there is no %q in\n%s", x.which, w, b.String())
			}
		}
	}
}
