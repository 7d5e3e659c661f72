package master

import (
	"context"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/pkg/master/config"
	"github.com/masterd/masterd/pkg/master/manager"
)

// run plays a story with a running master on the bubble's clock: time passes
// only while everybody waits.
func run(t *testing.T, cfg *config.Config, story func(w *world, m *Master)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		m := w.master(cfg)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan int)
		go func() {
			time.Sleep(time.Nanosecond) // until the story waits for something: what it says of v1 comes first
			ended <- m.Run(ctx)
		}()
		story(w, m)
		cancel()
		if code := <-ended; code != 0 {
			t.Errorf("the master ended with %d", code)
		}
		if n := w.living(); n != 0 {
			t.Errorf("%d workers outlive their master", n)
		}
	})
}

// until lets time pass until it is so, for at most a day.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for limit := time.Now().Add(24 * time.Hour); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatalf("never: %s", what)
		}
	}
}

func serves(w *world, programs ...string) func() bool {
	return func() bool { return slices.Equal(w.serving(), programs) }
}

// reload asks as a person would, and returns the stages and the outcome.
func reload(t *testing.T, m *Master, r api.ReloadRequest) ([]string, api.Outcome) {
	t.Helper()
	events, err := m.operator.Reload("alice (uid 1000)", true, r)
	if err != nil {
		t.Fatal(err)
	}
	return read(t, events)
}

func read(t *testing.T, events <-chan api.Event) (stages []string, out api.Outcome) {
	t.Helper()
	outcomes := 0
	for ev := range events {
		switch {
		case ev.Stage != nil:
			stages = append(stages, ev.Stage.Stage)
		case ev.Outcome != nil:
			out = *ev.Outcome
			outcomes++
		}
	}
	if outcomes != 1 {
		t.Fatalf("%d outcomes, want exactly one", outcomes)
	}
	return stages, out
}

func TestReloadMovesTrafficAndParksTheOld(t *testing.T) {
	cfg := testConfig()
	run(t, cfg, func(w *world, m *Master) {
		w.is("v2", behaviour{boot: 300 * time.Millisecond})
		until(t, "v1 serves", serves(w, "v1"))
		time.Sleep(cfg.Rollout.Bake + time.Second)

		w.install("v2")
		stages, out := reload(t, m, api.ReloadRequest{Reason: "a test"})
		if out.Result != api.ResultDone {
			t.Fatalf("outcome %+v after %v", out, stages)
		}
		if !slices.Contains(stages, "check") || !slices.Contains(stages, "steer") {
			t.Errorf("stages %v", stages)
		}
		if !serves(w, "v2")() {
			t.Fatalf("%v serve", w.serving())
		}
		st := m.Status()
		if st.State != "serving" || st.Active == nil || st.Active.By != "alice (uid 1000)" || st.Active.Why != "a test" ||
			len(st.Generations) != 2 {
			t.Errorf("status %+v", st)
		}
		time.Sleep(cfg.Rollout.Bake + time.Minute)
		if n := w.living(); n != 1 {
			t.Errorf("%d workers after the bake, want 1", n)
		}
	})
}

func TestBadCandidateCostsNothing(t *testing.T) {
	for name, b := range map[string]behaviour{
		"crashes":           {exit: 20 * time.Millisecond, hang: true},
		"hangs":             {hang: true},
		"is sick":           {sick: true},
		"left a daemon":     {gone: true},
		"cannot be started": {noSpawn: true},
	} {
		t.Run(name, func(t *testing.T) {
			run(t, testConfig(), func(w *world, m *Master) {
				w.is("v2", b)
				until(t, "v1 serves", serves(w, "v1"))
				steerings := w.timesSteered()
				w.install("v2")
				begun := time.Now()
				_, out := reload(t, m, api.ReloadRequest{})
				if out.Result != api.ResultFailed || out.Reason == "" || out.Stage == "" {
					t.Errorf("outcome %+v", out)
				}
				if took := time.Since(begun); took > 61*time.Second {
					t.Errorf("the answer took %s", took)
				}
				if !b.noSpawn && !slices.ContainsFunc(out.LastLines,
					func(l string) bool { return strings.Contains(l, "last words of v2") }) {
					t.Errorf("last lines %q", out.LastLines)
				}
				accessed := slices.DeleteFunc(slices.Clone(out.LastLines), func(l string) bool { return !strings.Contains(l, "GET /healthz") })
				if b.sick && (len(accessed) != 1 || !strings.Contains(accessed[0], "lines before that differ")) {
					t.Errorf("the checks' access lines are not one: %q", out.LastLines)
				}
				if !serves(w, "v1")() || w.timesSteered() != steerings {
					t.Errorf("v1 was touched: %v serve, %d steerings", w.serving(), w.timesSteered()-steerings)
				}
			})
		})
	}
}

func TestCrashInBakeGoesBackAtOnce(t *testing.T) {
	cfg := testConfig()
	run(t, cfg, func(w *world, m *Master) {
		until(t, "v1 serves", serves(w, "v1"))
		time.Sleep(cfg.Rollout.Bake + time.Second)
		w.install("v2")
		reload(t, m, api.ReloadRequest{})
		w.crash("v2")
		begun := time.Now()
		until(t, "v1 serves again", serves(w, "v1"))
		if took := time.Since(begun); took > time.Millisecond {
			t.Errorf("the way back took %s", took)
		}
	})
}

func TestRollbackDoesNotWaitForTheDisk(t *testing.T) {
	cfg := testConfig()
	run(t, cfg, func(w *world, m *Master) {
		until(t, "v1 serves", serves(w, "v1"))
		time.Sleep(cfg.Rollout.Bake + time.Second)
		w.install("v2")
		reload(t, m, api.ReloadRequest{})
		w.mu.Lock()
		w.diskFull = true
		w.mu.Unlock()

		begun := time.Now()
		events, err := m.operator.Rollback("alice", api.RollbackRequest{})
		if err != nil {
			t.Fatal(err)
		}
		if _, out := read(t, events); out.Result != api.ResultDone {
			t.Fatalf("outcome %+v", out)
		}
		if !serves(w, "v1")() || time.Since(begun) > 0 {
			t.Errorf("%v serve after %s", w.serving(), time.Since(begun))
		}

		w.install("v3")
		if _, out := reload(t, m, api.ReloadRequest{}); out.Result != api.ResultFailed ||
			!strings.Contains(out.Reason, "no space left") {
			t.Errorf("a forward move on a full disk: %+v", out)
		}
		w.mu.Lock()
		w.diskFull = false
		w.mu.Unlock()
	})
}

func TestUnconfirmedReloadGoesBack(t *testing.T) {
	cfg := testConfig()
	run(t, cfg, func(w *world, m *Master) {
		until(t, "v1 serves", serves(w, "v1"))
		time.Sleep(cfg.Rollout.Bake + time.Second)
		w.install("v2")
		_, out := reload(t, m, api.ReloadRequest{Confirm: api.Duration(10 * time.Minute)})
		if out.Result != api.ResultDone || !serves(w, "v2")() {
			t.Fatalf("outcome %+v, %v serve", out, w.serving())
		}
		time.Sleep(9 * time.Minute)
		if !serves(w, "v2")() {
			t.Fatalf("%v serve before the time is over", w.serving())
		}
		time.Sleep(time.Minute + time.Second)
		if !serves(w, "v1")() {
			t.Errorf("%v serve after it", w.serving())
		}
	})
}

func TestCallerThatGoesAwayChangesNothing(t *testing.T) {
	run(t, testConfig(), func(w *world, m *Master) {
		until(t, "v1 serves", serves(w, "v1"))
		w.is("v2", behaviour{boot: 10 * time.Second})
		w.install("v2")
		if _, err := m.operator.Reload("alice", true, api.ReloadRequest{}); err != nil { // nobody reads the answer
			t.Fatal(err)
		}
		until(t, "v2 serves", serves(w, "v2"))
	})
}

func TestDetachedReloadIsAcceptedAtOnce(t *testing.T) {
	run(t, testConfig(), func(w *world, m *Master) {
		until(t, "v1 serves", serves(w, "v1"))
		w.is("v2", behaviour{boot: 10 * time.Second})
		w.install("v2")
		begun := time.Now()
		if _, out := reload(t, m, api.ReloadRequest{Detach: true}); out.Result != api.ResultAccepted ||
			time.Since(begun) > 0 {
			t.Errorf("outcome %+v after %s", out, time.Since(begun))
		}
		until(t, "v2 serves", serves(w, "v2"))
	})
}

func TestHoldRefusesReloadsAndSaysWhy(t *testing.T) {
	run(t, testConfig(), func(w *world, m *Master) {
		until(t, "v1 serves", serves(w, "v1"))
		events, err := m.operator.Hold("bob", api.ReasonRequest{Reason: "the fair is on"})
		if err != nil {
			t.Fatal(err)
		}
		read(t, events)
		w.install("v2")
		if _, out := reload(t, m, api.ReloadRequest{}); out.Result != api.ResultHeld ||
			!strings.Contains(out.Reason, "the fair is on") || !strings.Contains(out.Reason, "bob") {
			t.Errorf("outcome %+v", out)
		}
	})
}

func TestManagerIsToldTheStory(t *testing.T) {
	cfg := testConfig()
	var told []string
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		m := w.master(cfg)
		m.operator.Manager = manager.New(func(s string) { told = append(told, s) }, 0)
		w.is("v1", behaviour{boot: 12 * time.Second})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan int)
		go func() { time.Sleep(time.Nanosecond); ended <- m.Run(ctx) }() // the story says first what v1 is like
		until(t, "v1 serves", serves(w, "v1"))
		w.install("v2")
		reload(t, m, api.ReloadRequest{})
		cancel()
		<-ended
	})
	var kinds []string
	for _, s := range told {
		kind, _, _ := strings.Cut(s, "=")
		if len(kinds) == 0 || kinds[len(kinds)-1] != kind {
			kinds = append(kinds, kind)
		}
	}
	story := strings.Join(kinds, " ")
	for _, part := range []string{"EXTEND_TIMEOUT_USEC", "READY", "RELOADING", "STOPPING"} {
		if !strings.Contains(story, part) {
			t.Errorf("no %q in what the manager was told: %s", part, story)
		}
	}
	if strings.Index(story, "READY") > strings.Index(story, "RELOADING") {
		t.Errorf("RELOADING before READY: %s", story)
	}
}

// What looks at all processes of a crowded machine holds up no reload.
func TestALookAtAllProcessesIsNotWaitedFor(t *testing.T) {
	run(t, testConfig(), func(w *world, m *Master) {
		until(t, "v1 serves", serves(w, "v1"))
		w.install("v2")
		reload(t, m, api.ReloadRequest{})
		const look = 10 * time.Second
		for _, program := range []string{"v2", "v3"} {
			w.is(program, behaviour{crowd: look})
		}
		w.install("v3")
		begun := time.Now()
		if _, out := reload(t, m, api.ReloadRequest{}); out.Result != api.ResultDone {
			t.Fatalf("%+v", out)
		}
		if took := time.Since(begun); took >= look {
			t.Errorf("a reload took %s, and a look at all processes %s", took, look)
		}
	})
}
