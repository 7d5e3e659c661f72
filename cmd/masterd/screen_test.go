package main

import (
	"context"
	"maps"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/pkg/master/admin/admintest"
)

// watched runs status --watch on a small terminal until q is typed, and returns what was on
// the screen after each key.
func watched(t *testing.T, st api.Status, typed ...key) (screens [][]string) {
	t.Helper()
	c := newCLI(t)
	c.tty, c.env["NO_COLOR"] = [2]int{100, 20}, "1"
	c.service("shop", &admintest.Backend{StatusIs: st})
	out := newGrowing()
	c.out = out
	restored := 0
	c.keys = func(ctx context.Context) (<-chan key, <-chan os.Signal, func()) {
		keys := make(chan key)
		go func() {
			out.await(t, screenToEnd, 1)
			for _, k := range append(typed, keyQuit) {
				keys <- k
			}
		}()
		return keys, nil, func() { restored++ }
	}
	code, text, errs := c.run("status", "--watch")
	if code != 0 || errs != "" || restored != 1 {
		t.Fatalf("exit %d, restored %d times: %s", code, restored, errs)
	}
	if !strings.HasPrefix(text, screenEnter) || !strings.HasSuffix(text, screenLeave) {
		t.Errorf("the terminal is not left as it was: %q", text)
	}
	for f := range strings.SplitSeq(strings.TrimSuffix(text, screenLeave), screenHome) {
		if f != screenEnter {
			screens = append(screens, strings.Split(strings.ReplaceAll(strings.TrimSuffix(f, screenToEnd), screenToEOL, ""), "\r\n"))
		}
	}
	return screens
}

// What is wrong and what to type stay in sight however far the rest is scrolled.
func TestWatchScrolls(t *testing.T) {
	all := watched(t, degradedStatus(), keyDown, keyPageDown, keyEnd, keyUp, keyHome, keyUp)
	first := all[0]
	for i, s := range all {
		if len(s) != 20 || !strings.Contains(s[0], "degraded") || !strings.HasPrefix(s[len(s)-1], "q quits; arrows, PgUp and PgDn scroll: ") {
			t.Fatalf("screen %d:\n%s", i, strings.Join(s, "\n"))
		}
		if text := strings.Join(s, "\n"); !strings.Contains(text, "Worker 13 fails its checks") || !strings.Contains(text, "failed ") ||
			!strings.Contains(text, "masterd logs --worker 13") {
			t.Errorf("screen %d:\n%s", i, text)
		}
	}
	last := func(s []string) string { return s[len(s)-2] }
	seen := map[string]bool{}
	for _, s := range all {
		seen[last(s)] = true
	}
	if len(seen) < 4 || strings.Join(all[len(all)-1], "\n") != strings.Join(first, "\n") {
		t.Errorf("of %d screens %d are different; the first and the last:\n%s\n\n%s", len(all), len(seen),
			strings.Join(first, "\n"), strings.Join(all[len(all)-1], "\n"))
	}
}

// Whatever ends it, the terminal is put back.
func TestWatchPutsTheTerminalBack(t *testing.T) {
	c := newCLI(t)
	c.tty = [2]int{80, 24}
	c.service("shop", named("shop", ""))
	c.now = func() time.Time { panic("a bug") }
	out := newGrowing()
	c.out = out
	restored := false
	c.keys = func(context.Context) (<-chan key, <-chan os.Signal, func()) {
		return nil, nil, func() { restored = true }
	}
	func() {
		defer func() {
			if recover() == nil {
				t.Error("it did not panic")
			}
		}()
		c.run("status", "--watch")
	}()
	if text := out.String(); !restored || !strings.HasSuffix(text, screenLeave) {
		t.Errorf("restored %v: %q", restored, text)
	}
}

func TestRates(t *testing.T) {
	before := servingStatus()
	now := servingStatus()
	now.Now = before.Now.Add(2 * time.Second)
	ws := now.Generations[0].Workers
	ws[0].Requests += 3
	ws[1].Requests += 30_000_000
	now.Generations[0].Workers = append(ws, worker(99, "active", time.Second, 0)) // there is nothing to compare
	if got := rates(before, now); !maps.Equal(got, map[uint64]float64{12: 1.5, 13: 15_000_000}) {
		t.Errorf("%v", got)
	}
	if got := rates(api.Status{}, now); got != nil {
		t.Errorf("at first: %v", got)
	}
	p := &page{st: now, width: pageColumns, rates: rates(before, now)}
	p.draw()
	text := strings.Join(p.lines, "\n")
	for _, w := range []string{"RESTARTS  REQ/S\n", "0    1.5\n", "0  15.0M\n", "0      -"} {
		if !strings.Contains(text, w) {
			t.Errorf("there is no %q in\n%s", w, text)
		}
	}
}
