package main

import (
	"context"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/pkg/master/admin/admintest"
)

func TestVersions(t *testing.T) {
	c := newCLI(t)
	at := func(d time.Duration) time.Time { return noon().Add(-d) }
	c.service("shop", &admintest.Backend{
		VersionsAre: []api.Version{
			{ID: "8c2e", Label: "v1.3.0", Digest: "sha256:ffee00112233445566", Use: "active", Result: "baking", Created: at(time.Hour), Size: 19_000_000, Mode: "copy",
				Settings: map[string]string{"worker.kind": "sdk"}},
			{ID: "77aa", Label: "v1.2.9\x1b[2J", Digest: "sha256:99aabbccddeeff0011", Result: "rolled back", Created: at(25 * time.Hour), Size: 18_900_000, Mode: "copy", Closed: true,
				Settings: map[string]string{"worker.kind": "sdk"}},
			{ID: "0b1d", Label: "v1.2.3", Digest: "sha256:0a1b2c3d4e5f60718", Use: "parked", Result: "baked", Created: at(50 * time.Hour), Size: 18_800_000, Mode: "path", Held: true,
				Settings: map[string]string{"worker.kind": "sdk"}},
			{ID: "0a0a", Label: "v1.2.2", Digest: "sha256:0b1b2c3d4e5f60718", Result: "failed at check", Created: at(50 * time.Hour), Size: 18_800_000, Mode: "path"},
		},
		DiffIs: []string{"program  0a1b2c3d -> ffee0011", "argument\t--mode=prod"},
	})
	c.want(0, lines(
		`VERSION        ID    USE     RESULT             AGE      SIZE  MODE  NOTE`,
		`v1.3.0         8c2e  active  baking              1h  18.1 MiB  copy`,
		`v1.2.9\x1b[2J  77aa          rolled back      1d 1h  18.0 MiB  copy`,
		`v1.2.3         0b1d  parked  baked            2d 2h  17.9 MiB  path  kept by hand`,
		`v1.2.2         0a0a          failed at check  2d 2h  17.9 MiB  path  today's settings`,
	), "", "versions")
	_, list, _ := c.run("versions")
	c.want(0, list, "", "versions", "list")
	c.want(0, "program  0a1b2c3d -> ffee0011\nargument\t--mode=prod\n", "", "versions", "diff", "v1.2.3", "v1.3.0")
	c.want(0, "v1.3.0 (8c2e) is kept until it is unpinned\n", "", "versions", "pin", "v1.3.0")
	c.want(0, "v1.2.3 (0b1d) goes when its time comes\n", "", "versions", "unpin", "0b1d")
	c.want(1, "", "masterd: There is no version v9.\n", "versions", "pin", "v9")
	code, out, _ := c.run("versions", "--json")
	if code != 0 || !strings.Contains(out, `"schema": 1`) || !strings.Contains(out, `"label": "v1.2.9\u001b[2J"`) {
		t.Errorf("exit %d: %s", code, out)
	}
}

func TestNothingYet(t *testing.T) {
	c := newCLI(t)
	c.service("shop", &admintest.Backend{})
	c.want(0, "No version is pinned yet.\n", "", "versions")
	c.want(0, "Nothing has happened yet.\n", "", "history")
	c.want(0, "They are the same.\n", "", "versions", "diff", "a", "b")
	c.want(0, "", "masterd: the workers have printed nothing yet\n", "logs")
	c.want(0, "", "masterd: nothing that worker 7 has printed is kept\n", "logs", "--worker", "7")
	c.want(0, "{\n  \"schema\": 1,\n  \"entries\": []\n}\n", "", "history", "--json")
}

func TestHistory(t *testing.T) {
	c := newCLI(t)
	c.service("shop", &admintest.Backend{StatusIs: bakingStatus(), HistoryIs: []api.Entry{
		{At: noon().Add(2 * time.Minute), Rollout: 13, What: "reload", By: "root for alice", Why: "new basket", From: 7, To: 8, Version: "v1.3.0", Outcome: "done", Stage: "baked",
			Began: noon().Add(-1200 * time.Millisecond), Switched: noon()},
		{At: noon(), Rollout: 13, What: "switch", By: "root for alice", Why: "new basket", From: 7, To: 8, Version: "v1.3.0", Outcome: "done", Stage: "serving",
			Began: noon().Add(-1200 * time.Millisecond)},
		{At: noon().Add(-time.Hour), Rollout: 12, What: "reload", By: "bob (uid 1001)", From: 7, To: 7, Version: "v1.2.9", Outcome: "rolled-back", Stage: "bake",
			Reason: "worker 9 of generation 7 died 12 s into the bake: signal: killed; its siblings were healthy, and so was the generation that was parked when the traffic went back"},
		{At: noon().Add(-90 * time.Minute), What: "cut", From: 6, To: 6, Version: "v1.2.8", Outcome: "failed", Worker: 5, Cut: &api.Cut{Connections: 3, Requests: 2, LongestMS: 12300},
			Reason: "Worker 5 of generation 6 (v1.2.8) did not finish within drain.timeout (10s); 3 connections and 2 requests were cut, the longest after 12.3s."},
		{At: noon().Add(-2 * time.Hour), What: "hold", By: "bob (uid 1001)", Why: "exam week", Outcome: "done"},
	}})
	golden(t, "history.txt", func() string { _, out, _ := c.run("history"); return out }())
	_, out, _ := c.run("history", "-n", "1")
	if strings.Count(out, "\n") != 5 {
		t.Errorf("the last one alone is\n%s", out)
	}
}

func TestLogs(t *testing.T) {
	c := newCLI(t)
	c.service("shop", &admintest.Backend{Lines: []api.LogLine{
		{At: noon(), Worker: 12, Generation: 7, Stream: "stdout", Text: "listening\ton 8080  "},
		{At: noon().Add(1234 * time.Millisecond), Worker: 12, Generation: 7, Stream: "stderr", Text: "\x1b[31moh no\x1b[0m"},
		{At: noon().Add(time.Minute), Worker: 1300, Generation: 11, Stream: "masterd", Text: "17 lines were dropped"},
	}})
	c.want(0, lines(
		"03-04 12:00:00.000 g7/w12        listening\ton 8080",
		`03-04 12:00:01.234 g7/w12    err \x1b[31moh no\x1b[0m`,
		"03-04 12:01:00.000 g11/w1300 *** 17 lines were dropped",
	), "", "logs")
	c.want(0, "03-04 12:01:00.000 g11/w1300 *** 17 lines were dropped\n", "", "logs", "--worker", "1300")
	c.want(0, "03-04 12:01:00.000 g11/w1300 *** 17 lines were dropped\n", "", "logs", "-n", "1")
}

func TestLogsAreFollowed(t *testing.T) {
	c := newCLI(t)
	more := make(chan api.LogLine)
	b := &admintest.Backend{
		Lines: []api.LogLine{{At: noon(), Worker: 1, Text: "first"}},
		Following: func(ctx context.Context, to chan<- api.LogLine) {
			for {
				select {
				case l := <-more:
					to <- l
				case <-ctx.Done():
					return
				}
			}
		},
	}
	s := c.service("shop", b)
	t.Cleanup(b.Wait)
	out := newGrowing()
	c.out = out
	var cancel context.CancelFunc
	c.ctx, cancel = context.WithCancel(t.Context())
	defer cancel()
	go func() {
		out.await(t, "first", 1)
		select {
		case more <- api.LogLine{At: noon(), Worker: 2, Text: "second"}:
		case <-c.ctx.Done():
		}
		out.await(t, "second", 1)
		cancel()
	}()
	if code, _, errs := c.run("logs", "-f"); code != 0 || errs != "" {
		t.Errorf("interrupted: exit %d: %s", code, errs)
	}
	out = newGrowing()
	c.out, c.ctx = out, t.Context()
	ended := make(chan error, 1)
	go func() {
		out.await(t, "first", 1)
		ended <- s.Close(context.Background())
	}()
	if code, _, errs := c.run("logs", "-f"); code != 1 || errs != "masterd: the master ended\n" {
		t.Errorf("when the master ends: exit %d: %s", code, errs)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestWatch(t *testing.T) {
	c := newCLI(t)
	c.tty = [2]int{80, 10}
	c.env["NO_COLOR"] = "1"
	c.service("shop", &admintest.Backend{StatusIs: sixteenStatus()})
	out := newGrowing()
	c.out = out
	var cancel context.CancelFunc
	c.ctx, cancel = context.WithCancel(t.Context())
	defer cancel()
	go func() { out.await(t, screenToEnd, 2); cancel() }()
	code, text, errs := c.run("status", "--watch")
	if code != 0 || errs != "" {
		t.Fatalf("exit %d: %s", code, errs)
	}
	if !strings.HasPrefix(text, screenEnter) || !strings.HasSuffix(text, screenLeave) {
		t.Errorf("the terminal is not left as it was: %q", text)
	}
	frames := strings.Split(strings.TrimSuffix(strings.TrimPrefix(text, screenEnter), screenLeave), screenHome)[1:]
	for _, f := range frames {
		l := strings.Split(strings.TrimSuffix(f, screenToEnd), "\r\n")
		if len(l) != 10 || !strings.HasPrefix(l[9], "... 8 more lines") {
			t.Errorf("a frame of %d lines ends in %q", len(l), l[len(l)-1])
		}
		for _, line := range l {
			if n := columns(strings.TrimSuffix(line, screenToEOL)); n > 80 {
				t.Errorf("%d columns: %q", n, line)
			}
		}
		if strings.Contains(f, "\x1b[2J") {
			t.Error("the screen is cleared between frames: that flickers")
		}
	}
}

func TestWatchWithoutTerminal(t *testing.T) {
	for _, asJSON := range []bool{false, true} {
		c := newCLI(t)
		c.service("shop", named("shop", ""))
		out, args, mark := newGrowing(), []string{"status", "--watch"}, "shop  serving\n"
		if asJSON {
			args, mark = append(args, "--json"), `"service":"shop"`
		}
		c.out = out
		var cancel context.CancelFunc
		c.ctx, cancel = context.WithCancel(t.Context())
		go func() { out.await(t, mark, 2); cancel() }()
		if code, text, errs := c.run(args...); code != 0 || errs != "" || strings.Contains(text, "\x1b") {
			t.Errorf("exit %d: %q %s", code, text, errs)
		}
		cancel()
	}
	c := newCLI(t)
	if code, _, errs := c.run("status", "--watch"); code != 3 {
		t.Errorf("with no master: exit %d: %s", code, errs)
	}
}

func TestWatchOutlivesTheMaster(t *testing.T) {
	c := newCLI(t)
	c.tty = [2]int{80, 24}
	s := c.service("shop", named("shop", ""))
	out := newGrowing()
	c.out = out
	var cancel context.CancelFunc
	c.ctx, cancel = context.WithCancel(t.Context())
	defer cancel()
	go func() {
		out.await(t, "serving", 1)
		s.Close(context.Background())
		out.await(t, "no running service was found", 1)
		c.service("shop", named("shop-again", ""))
		out.await(t, "shop-again", 1)
		cancel()
	}()
	if code, _, errs := c.run("status", "--watch"); code != 0 || errs != "" {
		t.Errorf("exit %d: %s", code, errs)
	}
}

func TestColourOnlyWhereItIsWanted(t *testing.T) {
	c := newCLI(t)
	c.service("shop", named("shop", ""))
	for _, w := range []struct {
		tty  [2]int
		env  map[string]string
		want bool
	}{
		{[2]int{}, nil, false},
		{[2]int{80, 24}, nil, true},
		{[2]int{80, 24}, map[string]string{"NO_COLOR": "1"}, false},
		{[2]int{80, 24}, map[string]string{"TERM": "dumb"}, false},
	} {
		c.tty, c.env = w.tty, w.env
		_, out, _ := c.run("status")
		if got := strings.Contains(out, "\x1b["); got != w.want {
			t.Errorf("terminal %v, environment %v: coloured %v", w.tty, w.env, got)
		}
	}
}

func TestVersion(t *testing.T) {
	c := newCLI(t)
	code, out, _ := c.run("version")
	if code != 0 || !regexp.MustCompile(`^masterd \S+\ngo      go1\.\S+ \w+/\w+\ncommit  .+\n$`).MatchString(out) {
		t.Errorf("exit %d: %q", code, out)
	}
	for want, b := range map[string]build{
		"devel-0123456789ab": {version: "(devel)", commit: "0123456789abcdef"},
		"devel":              {version: "(devel)"},
		"v1.2.3":             {version: "v1.2.3", commit: "0123456789abcdef"},
	} {
		if got := b.short(); got != want {
			t.Errorf("%+v is %q, want %q", b, got, want)
		}
	}
}
