package master

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/pkg/master/config"
	"github.com/masterd/masterd/pkg/master/listen"
)

func stepsConfig() *config.Config {
	cfg := testConfig()
	cfg.Rollout.Canary = config.Canary{Steps: []config.Step{{Weight: 1000, Hold: time.Minute}}}
	cfg.Rollout.Analysis = config.Analysis{Act: "auto", Alpha: 100, Errors: config.Tolerance{Ratio: 1.5}, Delay: 5 * time.Second}
	return cfg
}

func (w *world) cannotSplit(why string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.whole = why
}

// The sockets are told which part is the canary's, and the salt where clients are to stay.
func TestACanarySplitsTheTraffic(t *testing.T) {
	for _, sticky := range []string{"connection", config.StickyClient} {
		t.Run(sticky, func(t *testing.T) {
			cfg := stepsConfig()
			cfg.Rollout.Canary.Sticky = sticky
			run(t, cfg, func(w *world, m *Master) {
				until(t, "v1 serves", serves(w, "v1"))
				time.Sleep(cfg.Rollout.Bake + time.Second)
				w.install("v2")
				if _, err := m.operator.Reload("alice", true, api.ReloadRequest{}); err != nil {
					t.Fatal(err)
				}
				until(t, "both serve", serves(w, "v1", "v2"))
				w.mu.Lock()
				old, canary, salt := w.slotOf("v1"), w.slotOf("v2"), w.sticky
				want := []listen.Share{{Slot: old, Weight: 9}, {Slot: canary, Weight: 1, Canary: true}}
				if !slices.Equal(w.steered, want) || (salt != 0) != (sticky == config.StickyClient) {
					t.Errorf("steered to %+v with salt %d, want %+v", w.steered, salt, want)
				}
				w.mu.Unlock()
				until(t, "v2 serves", serves(w, "v2"))
				w.mu.Lock()
				defer w.mu.Unlock()
				if w.steered[0].Canary || w.sticky != 0 {
					t.Errorf("after the last step: %+v with salt %d", w.steered, w.sticky)
				}
			})
		})
	}
}

// slotOf is the slot of the worker of a program; the world is locked.
func (w *world) slotOf(program string) int {
	for _, f := range w.workers {
		if f.program == program {
			return f.slot
		}
	}
	return -1
}

// Steps are refused where the sockets cannot split, before anything of it is started. What
// goes without steps is not.
func TestStepsNeedSocketsThatSplit(t *testing.T) {
	cfg := stepsConfig()
	cfg.Rollout.Canary.SkipBaked = true
	run(t, cfg, func(w *world, m *Master) {
		w.cannotSplit("there is one socket")
		until(t, "v1 serves: there is nobody to share with", serves(w, "v1"))
		time.Sleep(cfg.Rollout.Bake + time.Second)

		w.install("v2")
		_, out := reload(t, m, api.ReloadRequest{})
		for _, want := range []string{"listener http on tcp://127.0.0.1:80: there is one socket", "--skip-canary", "rollout.canary.steps"} {
			if !strings.Contains(out.Reason, want) {
				t.Errorf("%q does not say %q", out.Reason, want)
			}
		}
		if out.Result == api.ResultDone || out.Stage != "prepare" || !serves(w, "v1")() || w.living() != 1 {
			t.Fatalf("outcome %+v, %v serve, %d live", out, w.serving(), w.living())
		}

		w.cannotSplit("")
		if _, out := reload(t, m, api.ReloadRequest{}); out.Result != api.ResultDone {
			t.Fatalf("outcome %+v", out)
		}
		time.Sleep(cfg.Rollout.Bake + time.Minute)
		w.cannotSplit("there is one socket")
		w.install("v1")
		if _, out := reload(t, m, api.ReloadRequest{}); out.Result != api.ResultDone || !serves(w, "v1")() {
			t.Fatalf("a version that was baked before: outcome %+v", out)
		}
	})
}

// A way back goes without steps, and so does what follows nobody who lives.
func TestWithoutStepsNothingIsSplit(t *testing.T) {
	cfg := stepsConfig()
	run(t, cfg, func(w *world, m *Master) {
		until(t, "v1 serves", serves(w, "v1"))
		time.Sleep(cfg.Rollout.Bake + time.Second)
		w.install("v2")
		if _, out := reload(t, m, api.ReloadRequest{}); out.Result != api.ResultDone {
			t.Fatalf("outcome %+v", out)
		}
		time.Sleep(cfg.Rollout.Bake + time.Minute)
		w.cannotSplit("there is one socket")
		events, err := m.operator.Rollback("alice", api.RollbackRequest{Version: "v1"})
		if err != nil {
			t.Fatal(err)
		}
		if _, out := read(t, events); out.Result != api.ResultDone || !serves(w, "v1")() {
			t.Fatalf("a rollback: outcome %+v", out)
		}
		time.Sleep(cfg.Rollout.Bake + time.Minute)

		w.is("v1", behaviour{noSpawn: true})
		w.crash("v1")
		until(t, "nobody lives", func() bool { return w.living() == 0 })
		if _, out := reload(t, m, api.ReloadRequest{}); out.Result != api.ResultDone || !serves(w, "v2")() {
			t.Errorf("with nobody alive: outcome %+v", out)
		}
	})
}
