package e2e

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/test/service"
)

// events are those since a number.
func events(t *testing.T, s *service.Service, since uint64) (all []api.Entry) {
	t.Helper()
	out := cli(t, s, 0, "events", "--json", "--since", strconv.FormatUint(since, 10))
	for line := range strings.Lines(out) {
		var e api.Entry
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("%v: %q", err, line)
		}
		all = append(all, e)
	}
	return all
}

// A script that goes on from the number it has seen misses nothing and reads nothing twice,
// whichever master it asks.
func TestEventsGoOnWithTheNextMaster(t *testing.T) {
	t.Parallel()
	s := started(t, nil)
	baked(t, s)
	var all []api.Entry
	read := func(what string) {
		t.Helper()
		since := uint64(0)
		if len(all) > 0 {
			since = all[len(all)-1].N
		}
		more := events(t, s, since)
		for i, e := range more {
			if e.N != since+1+uint64(i) {
				t.Errorf("%s: after %d comes %+v", what, since, more)
			}
		}
		all = append(all, more...)
	}
	read("a start")
	next(t, s, 2, "baked")
	read("a reload")
	s.Kill()
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	wait(t, s, "serving", func(st api.Status) bool { return st.State == "serving" })
	next(t, s, 3, "baked")
	read("another master")
	cli(t, s, 0, "upgrade")
	next(t, s, 4, "baked")
	read("an upgrade")
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	baked(t, s)
	read("a stop")

	// Each rollout: the switch, and then its end, which knows of it.
	ends := 0
	for i, e := range all {
		if e.What != "reload" {
			continue
		}
		ends++
		at := slices.IndexFunc(all[:i], func(x api.Entry) bool { return x.What == "switch" && x.To == e.To })
		if at < 0 || all[at].Rollout != e.Rollout || all[at].By != e.By || e.Switched.IsZero() || e.Began.IsZero() || e.Switched.After(e.At) ||
			e.Began.After(e.Switched) || e.VersionID == "" {
			t.Errorf("%+v follows %+v", e, all[max(at, 0)])
		}
	}
	if ends != 3 {
		t.Errorf("%d of 3 reloads are told: %+v", ends, all)
	}
	// Numbers of somewhere else.
	anew := events(t, s, 1<<40)
	if len(anew) < len(all) || anew[0].What != api.WhatGap || anew[0].N != 0 || anew[1].N != 1 {
		t.Errorf("%+v", anew)
	}
}

// What became of each version, also of one that never had the traffic.
func TestVersionsHaveResults(t *testing.T) {
	t.Parallel()
	s := started(t, func(c service.Config) { c.Set("rollout.bake", "2m") })
	results := func(want map[string]string) {
		t.Helper()
		vs, err := s.API.Versions(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range vs {
			if w := want[v.Label]; w != "" && v.Result != w {
				t.Errorf("%s: %q, want %q", v.Label, v.Result, w)
			}
			delete(want, v.Label)
		}
		if len(want) > 0 {
			t.Errorf("there are no %v in %+v", want, vs)
		}
	}
	word := func(label string) {
		t.Helper()
		s.Config.Set("worker.env", map[string]string{"DEMO_WORD": label})
		if err := s.Write(); err != nil {
			t.Fatal(err)
		}
	}
	word("v1")
	cli(t, s, 0, "reload", "--label", "v1")
	results(map[string]string{"v1": "baking"})
	cli(t, s, 0, "promote")
	word("v2")
	cli(t, s, 0, "reload", "--label", "v2")
	cli(t, s, 0, "rollback")
	s.Config.Set("worker.env.DEMO_EXIT", "3")
	if err := s.Write(); err != nil {
		t.Fatal(err)
	}
	cli(t, s, 1, "reload", "--label", "v3")
	results(map[string]string{"v1": "baked", "v2": "rolled back", "v3": "failed at start"})
	s.Kill()
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	wait(t, s, "serving", func(st api.Status) bool { return st.Active != nil })
	results(map[string]string{"v1": "baked", "v2": "rolled back", "v3": "failed at start"})
	if out := cli(t, s, 0, "versions"); !strings.Contains(out, "RESULT") || !strings.Contains(out, "failed at start") {
		t.Errorf("%s", out)
	}
	if out := cli(t, s, 0, "history"); !strings.HasPrefix(out, "v1 (generation ") || !strings.Contains(out, " runs since ") {
		t.Errorf("%s", out)
	}
}
