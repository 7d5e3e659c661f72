package main

import (
	"context"
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/pkg/master/admin"
	"github.com/masterd/masterd/pkg/master/admin/admintest"
)

func TestReloadDone(t *testing.T) {
	c := newCLI(t)
	c.service("shop", scripted(
		staged(0, "prepare", 0, "", "", 0),
		staged(120*time.Millisecond, "start", 8, "v1.3.0", "", time.Minute),
		staged(410*time.Millisecond, "check", 8, "v1.3.0", "2 workers", 0),
		staged(600*time.Millisecond, "serving", 8, "v1.3.0", "", 0),
		ended(api.Outcome{Result: api.ResultDone, Generation: 8, Version: "v1.3.0", Stage: "serving", ElapsedMS: 612}),
	))
	c.want(0, lines(
		"   0.0s  prepare",
		"   0.1s  start      generation 8, v1.3.0, at most 1m",
		"   0.4s  check      2 workers",
		"   0.6s  serving",
		"reload done after 0.6s: generation 8, v1.3.0",
	), "", "reload")
}

func TestOutcomes(t *testing.T) {
	for _, o := range []struct {
		outcome   api.Outcome
		code      int
		out, errs string
	}{
		{api.Outcome{Result: api.ResultAccepted, Reason: "Accepted; it goes on without you."}, 0, "Accepted; it goes on without you.\n", ""},
		{api.Outcome{Result: api.ResultDone, Generation: 2, Reason: "Generation 2 (v2) has the traffic.", ElapsedMS: 200}, 0, "reload done after 0.2s: Generation 2 (v2) has the traffic.\n", ""},
		{api.Outcome{Result: api.ResultDone, Generation: 3, Reason: "Generation 3 (v3) has the traffic.", ElapsedMS: 200,
			RollbackTarget: &api.RollbackTarget{Generation: 1, Version: "v1\x1b", Warm: true, Due: noon().Add(8 * time.Second)}}, 0,
			"reload done after 0.2s: Generation 3 (v3) has the traffic.\nrollback: back to v1\\x1b (generation 1), warm, at once\n" +
				"confirm: back to generation 1 in 8s unless `masterd promote`\n", ""},
		{
			api.Outcome{Result: api.ResultFailed, Stage: "check", Generation: 9, Reason: "worker 23 answered 500 to GET /healthz 3 times", Worker: 23,
				LastLines: []string{"listening", "\x1b[31mpanic:\x1b[0m no\tdatabase"}, ElapsedMS: 1249},
			1, "", "masterd: reload failed at stage check after 1.2s and nothing has changed: worker 23 answered 500 to GET /healthz 3 times\n" +
				"  worker 23 said last:\n    23 | listening\n    23 | \\x1b[31mpanic:\\x1b[0m no    database\n",
		},
		{
			api.Outcome{Result: api.ResultRolledBack, Stage: "bake", Reason: "worker 24 died: signal: killed", ElapsedMS: 130_000},
			4, "", "masterd: reload was rolled back at stage bake after 2m 10s: worker 24 died: signal: killed\n",
		},
		{
			api.Outcome{Result: api.ResultFailed, Stage: "bake", Reason: "generation 2 (v2) serves and does not count as baked: its time is over", ElapsedMS: 30_000},
			6, "", "masterd: reload has not ended after 30.0s: generation 2 (v2) serves and does not count as baked: its time is over\n",
		},
		{api.Outcome{Result: api.ResultHeld, Reason: "bob (uid 1001) holds it: exam week"}, 5, "", "masterd: reload was refused: bob (uid 1001) holds it: exam week\n"},
		{
			api.Outcome{Result: api.ResultSuperseded, Stage: "start", Reason: "rollout 13 by alice took its place"},
			5, "", "masterd: reload was superseded at stage start: rollout 13 by alice took its place\n",
		},
		{api.Outcome{Result: api.ResultInvalid, Reason: "no rollout is running"}, 1, "", "masterd: reload makes no sense now: no rollout is running\n"},
		{api.Outcome{Result: "teleported"}, 1, "", "masterd: reload ended with \"teleported\", which this masterd does not know\n"},
	} {
		t.Run(o.outcome.Result, func(t *testing.T) {
			c := newCLI(t)
			c.service("shop", scripted(ended(o.outcome)))
			c.want(o.code, o.out, o.errs, "reload")
		})
	}
}

func TestRefusals(t *testing.T) {
	for name, r := range map[string]struct {
		problem api.Problem
		code    int
	}{
		"bad configuration": {api.Problem{Status: 422, Message: "shop.yaml:3: servce: unknown key; did you mean service?", Result: api.ResultFailed}, 2},
		"wrong request":     {api.Problem{Status: 400, Message: "until is \"never\".", Result: api.ResultInvalid}, 2},
		"held":              {api.Problem{Status: 409, Message: "bob holds it.", Result: api.ResultHeld}, 5},
		"no such version":   {api.Problem{Status: 404, Message: "There is no version v0.", Result: api.ResultInvalid}, 1},
		"disk full":         {api.Problem{Status: 503, Message: "The disk is full."}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCLI(t)
			c.service("shop", refusing(&r.problem))
			c.want(r.code, "", "masterd: "+r.problem.Message+"\n", "reload")
		})
	}
}

func TestNoMaster(t *testing.T) {
	c := newCLI(t)
	verbs := [][]string{
		{"reload"}, {"rollback"}, {"promote"}, {"pause"}, {"resume"}, {"abort"}, {"hold", "why"}, {"unhold"}, {"scale", "2"}, {"upgrade"}, {"stop"},
		{"status"}, {"history"}, {"events"}, {"logs"}, {"versions"}, {"versions", "list"}, {"versions", "pin", "1"}, {"versions", "diff", "1", "2"},
	}
	for _, v := range verbs {
		c.want(3, "", "masterd: no running service was found in $DIR; start one with \"masterd run\", or say which with --config FILE or --service NAME\n", v...)
		c.want(3, "", "masterd: no master of shop is running; looked in $DIR\n", append(v, "--service", "shop")...)
	}
}

// breaking is a master that dies in the middle of an answer.
func (c *cli) breaking(name, answer string) {
	c.t.Helper()
	dir := filepath.Join(c.dir, name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		c.t.Fatal(err)
	}
	l, err := net.Listen("unix", filepath.Join(dir, adminSocket))
	if err != nil {
		c.t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			conn.Read(make([]byte, 4096))
			conn.Write([]byte(answer))
			conn.Close()
		}
	}()
	c.t.Cleanup(func() { l.Close(); <-done })
}

func TestMasterBreaksOff(t *testing.T) {
	c := newCLI(t)
	c.breaking("shop", "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"+`{"stage":{"at":"2026-03-04T12:00:01Z","stage":"check","generation":8}}`+"\n")
	c.want(6, "   1.0s  check      generation 8\n",
		"masterd: the connection to the master broke at stage check before it said how reload ended: unexpected EOF\n"+
			"What came of it is not known here: \"masterd status\" and \"masterd history\" tell.\n", "reload")
}

func TestMasterDoesNotAnswer(t *testing.T) {
	c := newCLI(t)
	c.breaking("shop", "")
	code, _, errs := c.run("rollback")
	if code != 6 || !strings.HasPrefix(errs, "masterd: the connection to the master broke before it said how rollback ended: ") {
		t.Errorf("exit %d: %s", code, errs)
	}
	code, _, errs = c.run("status")
	if code != 4 || !strings.HasPrefix(errs, "masterd: the connection to the master behind "+c.dir) {
		t.Errorf("status: exit %d: %s", code, errs)
	}
	if code, _, _ = c.run("history"); code != 1 {
		t.Errorf("history: exit %d", code)
	}
}

func TestPatienceEnds(t *testing.T) {
	c := newCLI(t)
	events := make(chan api.Event, 1)
	events <- staged(0, "bake", 8, "v2", "", 0)
	c.service("shop", &admintest.Backend{Change: func(admintest.Call) (<-chan api.Event, error) { return events, nil }})
	c.want(6, "   0.0s  bake       generation 8, v2\n",
		"masterd: no outcome within 300ms at stage bake; reload goes on in the master\n"+
			"\"masterd status\" shows how it goes, \"masterd history\" how it ended, \"masterd abort\" ends it.\n", "reload", "--timeout", "300ms")
}

func TestInterrupted(t *testing.T) {
	c := newCLI(t)
	events := make(chan api.Event, 1)
	events <- staged(0, "start", 8, "v2", "", 0)
	c.service("shop", &admintest.Backend{Change: func(admintest.Call) (<-chan api.Event, error) { return events, nil }})
	out := newGrowing()
	c.out = out
	var cancel context.CancelFunc
	c.ctx, cancel = context.WithCancel(t.Context())
	defer cancel()
	go func() { out.await(t, "start", 1); cancel() }()
	code, _, errs := c.run("reload")
	want := "masterd: you stopped watching at stage start; reload goes on in the master\n" +
		"\"masterd status\" shows how it goes, \"masterd history\" how it ended, \"masterd abort\" ends it.\n"
	if code != 6 || errs != want {
		t.Errorf("exit %d: %s", code, errs)
	}
}

func TestWrongUsage(t *testing.T) {
	c := newCLI(t)
	for _, u := range []struct{ line, want string }{
		{"relaod", "there is no verb \"relaod\"; did you mean reload?\nTry \"masterd --help\"."},
		{"restart", "there is no verb \"restart\": \"masterd reload\" starts new workers in the place of the old ones and loses no request, " +
			"\"masterd upgrade\" replaces masterd itself; \"systemctl restart masterd@NAME\" ends everything and starts it again"},
		{"start", "there is no verb \"start\": \"masterd run\" runs the service in the foreground, and \"systemctl start masterd@NAME\" has systemd start it"},
		{"ps", "there is no verb \"ps\": \"masterd status\" shows the workers of a service, \"masterd list\" the services"},
		{"-s restart", `-s is "restart"; it can be reload, stop, quit or reopen`},
		{"--service shop", "--service names a running service, for a verb or for -s; without them masterd is the daemon"},
		{"xyzzy", "there is no verb \"xyzzy\"\nTry \"masterd --help\"."},
		{"reload --lable x", "unknown flag: --lable\nTry \"masterd reload --help\"."},
		{"reload now", "masterd reload takes no arguments, not \"now\"\nTry \"masterd reload --help\"."},
		{"reload --until tomorrow", `--until is "tomorrow"; it can be serving or baked`},
		{"reload --timeout 5", "--timeout is \"5\"; it takes a number with its unit, such as 90s or 10m\nTry \"masterd reload --help\"."},
		{"reload --timeout -5s", "--timeout and --confirm cannot be negative"},
		{"hold", "the usage is: masterd hold REASON [flags]\nTry \"masterd hold --help\"."},
		{"rollback v1 v2", "the usage is: masterd rollback [VERSION] [flags]\nTry \"masterd rollback --help\"."},
		{"scale many", `"many" is not a number of workers; at least 1 is needed, "masterd stop" ends the service`},
		{"scale 65", `65 workers are too many; a service has at most 64`},
		{"scale 0", `"0" is not a number of workers; at least 1 is needed, "masterd stop" ends the service`},
		{"stop --now --patient", "--now and --patient exclude each other"},
		{"stop --now --announce 1s", "--now and --announce exclude each other"},
		{"stop --announce -1s", "--announce is -1s; it cannot be negative"},
		{"history -n 0", "-n is 0; it can be from 1 to 1000"},
		{"logs -n x", "-n is \"x\"; it takes a whole number\nTry \"masterd logs --help\"."},
		{"versions foo", "there is no verb \"foo\"\nTry \"masterd versions --help\"."},
		{"logs -n -1", "-n is -1; it can be from 0 to 100000"},
		{"versions diff v1", "the usage is: masterd versions diff A B [flags]\nTry \"masterd versions diff --help\"."},
		{"completion tcsh", "there is no completion for \"tcsh\"; it can be bash, zsh or fish\nTry \"masterd completion --help\"."},
		{"run", "no configuration: neither --config nor MASTERD_CONFIG names one, and there is no $DIR/masterd.yaml"},
		{"check", "no configuration: neither --config nor MASTERD_CONFIG names one, and there is no $DIR/masterd.yaml"},
		{"-t", "no configuration: neither --config nor MASTERD_CONFIG names one, and there is no $DIR/masterd.yaml"},
	} {
		c.want(2, "", "masterd: "+u.want+"\n", strings.Fields(u.line)...)
	}
}

func TestStopInProduction(t *testing.T) {
	c := newCLI(t)
	c.service("shop", &admintest.Backend{}, func(o *admin.Options) { o.Environment = "production" })
	c.want(1, "", "masterd: shop is a production service; say its name to stop it: masterd stop --confirm shop.\n", "stop")
	c.want(0, "stop done after 0.0s\n", "", "stop", "--confirm", "shop")
}

func TestRequestsAsTyped(t *testing.T) {
	c := newCLI(t)
	b := &admintest.Backend{VersionsAre: []api.Version{{ID: "3", Label: "v1"}}}
	c.service("shop", b)
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range []struct {
		args []string
		what string
		want any
	}{
		{[]string{"reload"}, "reload", api.ReloadRequest{Until: "serving"}},
		{[]string{"reload", "--label", "v2", "--binary", "bin/shop", "--until", "baked", "--detach", "--timeout", "1m", "--confirm", "10m", "--replace", "--reason", "new basket"},
			"reload", api.ReloadRequest{Label: "v2", Binary: filepath.Join(here, "bin/shop"), Until: "baked", Detach: true, Confirm: api.Duration(10 * time.Minute), Replace: true, Reason: "new basket"}},
		{[]string{"rollback"}, "rollback", api.RollbackRequest{}},
		{[]string{"rollback", "v1", "--reason", "slow"}, "rollback", api.RollbackRequest{Version: "v1", Reason: "slow"}},
		{[]string{"reload", "--canary", "5%:30s,25%"}, "reload", api.ReloadRequest{Until: "serving", Canary: "5%:30s,25%"}},
		{[]string{"reload", "--skip-canary"}, "reload", api.ReloadRequest{Until: "serving", SkipCanary: true}},
		{[]string{"promote"}, "promote", api.PromoteRequest{}},
		{[]string{"promote", "--all", "--reason", "looks fine"}, "promote", api.PromoteRequest{All: true, Reason: "looks fine"}},
		{[]string{"pause"}, "pause", api.ReasonRequest{}},
		{[]string{"pause", "too", "slow"}, "pause", api.ReasonRequest{Reason: "too slow"}},
		{[]string{"resume", "it was the database"}, "resume", api.ReasonRequest{Reason: "it was the database"}},
		{[]string{"abort", "--reason", "wrong one"}, "abort", api.ReasonRequest{Reason: "wrong one"}},
		{[]string{"hold", "exam", "week"}, "hold", api.ReasonRequest{Reason: "exam week"}},
		{[]string{"unhold"}, "unhold", api.ReasonRequest{}},
		{[]string{"scale", "4"}, "scale", api.ScaleRequest{Processes: 4}},
		{[]string{"stop", "--patient"}, "stop", api.StopRequest{Patient: true}},
		{[]string{"stop", "--now"}, "stop", api.StopRequest{Now: true}},
		{[]string{"stop", "--announce", "10s"}, "stop", api.StopRequest{Announce: new(api.Duration(10 * time.Second))}},
		{[]string{"stop", "--announce", "0"}, "stop", api.StopRequest{Announce: new(api.Duration(0))}},
		{[]string{"-s", "reload"}, "reload", api.ReloadRequest{Until: "serving"}},
		{[]string{"-s", "stop", "--service", "shop"}, "stop", api.StopRequest{}},
		{[]string{"--signal=quit"}, "stop", api.StopRequest{Patient: true}},
		{[]string{"versions", "pin", "v1"}, "pin", "v1"},
		{[]string{"versions", "unpin", "3"}, "unpin", "3"},
	} {
		before := len(b.Calls())
		code, _, errs := c.run(r.args...)
		calls := b.Calls()[before:]
		if code != 0 || len(calls) != 1 || calls[0].What != r.what || !reflect.DeepEqual(calls[0].Request, r.want) {
			t.Errorf("masterd %s: exit %d, the master was asked %+v, want %+v\n%s", strings.Join(r.args, " "), code, calls, r.want, errs)
		}
	}
}

// What is wrong in what was typed is told before a master is asked.
func TestCanaryAsTyped(t *testing.T) {
	c := newCLI(t)
	c.want(2, "", "masterd: --canary has no steps; write some, or --skip-canary to go without\n", "reload", "--canary", "")
	code, _, errs := c.run("reload", "--canary", "5%", "--skip-canary")
	if code != 2 || !strings.Contains(errs, "canary skip-canary") {
		t.Errorf("both: exit %d: %s", code, errs)
	}
}

// What nginx's hands type has the exit codes of the verbs, and means the same service.
func TestSignalIsAVerb(t *testing.T) {
	c := newCLI(t)
	c.want(3, "", "masterd: no master of shop is running; looked in $DIR\n", "-s", "reload", "--service", "shop")
	c.want(3, "", "masterd: no master of shop is running; looked in $DIR\n", "-s", "reopen", "--service", "shop")
	c.service("shop", scripted(ended(api.Outcome{Result: api.ResultHeld, Reason: "bob holds it"})))
	c.service("blog", named("blog", ""))
	c.want(5, "", "masterd: reload was refused: bob holds it\n", "-s", "reload", "--service", "shop")
	if code, _, errs := c.run("-s", "reload"); code != 2 || !strings.Contains(errs, "several services run here") {
		t.Errorf("which of two was not asked: exit %d: %s", code, errs)
	}
}

func TestStatusCodes(t *testing.T) {
	for state, code := range map[string]int{"serving": 0, "degraded": 1, "down": 1, "starting": 1, "stopping": 1} {
		c := newCLI(t)
		c.service("shop", &admintest.Backend{StatusIs: api.Status{Service: "shop", State: state, Now: noon()}})
		got, out, errs := c.run("status")
		if got != code || errs != "" || !strings.HasPrefix(out, "shop  "+state) {
			t.Errorf("%s: exit %d, want %d\n%s%s", state, got, code, out, errs)
		}
		got, out, _ = c.run("status", "--json")
		var st api.Status
		if err := json.Unmarshal([]byte(out), &st); err != nil || got != code || st.State != state {
			t.Errorf("%s in JSON: exit %d, %v\n%s", state, got, err, out)
		}
	}
}
