package main

import (
	"context"
	"testing"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/pkg/master/admin/admintest"
)

func eventful() *admintest.Backend {
	return &admintest.Backend{HistoryIs: []api.Entry{
		{N: 43, At: noon(), What: "unhealthy", From: 8, To: 8, Version: "v1.3.0", Outcome: "failed", Worker: 9, Reason: "Worker 9 failed\x1b[2J 3 health checks in a row.", Repeats: 3},
		{N: 42, At: noon(), Rollout: 13, What: "reload", By: "root for alice", Why: "new\nbasket", From: 7, To: 8, Version: "v1.3.0", Outcome: "done", Stage: "baked"},
		{N: 41, At: noon(), What: "hold", By: "bob (uid 1001)", Outcome: "done"},
	}}
}

func TestEvents(t *testing.T) {
	c := newCLI(t)
	c.service("shop", eventful())
	hold := "   41  2026-03-04 12:00:00  hold  by bob (uid 1001)"
	reload := "   42  2026-03-04 12:00:00  reload  v1.3.0  generation 7 -> 8  by root for alice  why: new basket"
	sick := `   43  2026-03-04 12:00:00  unhealthy  failed, 3 times  v1.3.0  generation 8  worker 9  Worker 9 failed\x1b[2J 3 health checks in a row.`
	c.want(0, lines(hold, reload, sick), "", "events")
	c.want(0, lines(sick), "", "events", "-n", "1")
	c.want(0, lines(reload, sick), "", "events", "--since", "41")
	c.want(0, lines(hold, reload, sick), "", "events", "--since", "0")
	c.want(0, "", "", "events", "--since", "43")
	c.want(0, lines(
		`{"at":"2026-03-04T12:00:00Z","rollout":13,"what":"reload","by":"root for alice","why":"new\nbasket","from":7,"to":8,"version":"v1.3.0","outcome":"done","stage":"baked","n":42}`,
		`{"at":"2026-03-04T12:00:00Z","what":"unhealthy","by":"","from":8,"to":8,"version":"v1.3.0","outcome":"failed","reason":"Worker 9 failed\u001b[2J 3 health checks in a row.","worker":9,"repeats":3,"n":43}`,
	), "", "events", "--json", "--since", "41")
	if code, _, errs := c.run("events", "--since", "41", "-n", "3"); code != exitUsage {
		t.Errorf("exit %d: %s", code, errs)
	}
	if code, _, errs := newCLI(t).run("events", "-f"); code != exitNoMaster {
		t.Errorf("with no master: exit %d: %s", code, errs)
	}
}

func TestEventsAreFollowed(t *testing.T) {
	c := newCLI(t)
	b := eventful()
	s := c.service("shop", b)
	t.Cleanup(b.Wait)
	out := newGrowing()
	c.out = out
	var cancel context.CancelFunc
	c.ctx, cancel = context.WithCancel(t.Context())
	defer cancel()
	go func() { out.await(t, "unhealthy", 1); cancel() }()
	if code, _, errs := c.run("events", "-f"); code != 0 || errs != "" {
		t.Errorf("interrupted: exit %d: %s", code, errs)
	}
	out = newGrowing()
	c.out, c.ctx = out, t.Context()
	ended := make(chan error, 1)
	go func() { out.await(t, "unhealthy", 1); ended <- s.Close(context.Background()) }()
	if code, _, errs := c.run("events", "-f", "--since", "42"); code != 1 || errs != "masterd: the master ended\n" {
		t.Errorf("when the master ends: exit %d: %s", code, errs)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
