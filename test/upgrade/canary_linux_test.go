package upgrade

import (
	"testing"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/test/service"
)

// TestUpgradeWithinACanary: a master that goes on with a canary has the weights be as they
// were. The version before knows no steps: it gives everything back. No request fails and no
// connection is closed by either, nor when a later canary goes on to its end.
func TestUpgradeWithinACanary(t *testing.T) {
	before, present := builtPrograms(t)
	w := newWorld(t, "sdk", before, present)
	w.Config.Set("worker.env.DEMO_LISTENERS", "http").Set("listeners", []any{
		map[string]any{"name": "http", "address": "tcp://" + w.Addr},
	})
	w.master(present)
	w.worker(present.Demo, 1, shortBake)
	if err := w.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.first = w.status().Active.Version.Label
	w.rests(1)
	w.load()

	w.canary(2)
	w.to(present)
	w.step(2)
	w.to(before)
	w.rests(1)

	w.to(present)
	w.rests(1)
	w.canary(3)
	w.to(present)
	w.step(3)
	w.must("promote", "--all")
	w.rests(3)

	for _, end := range w.end {
		r := end()
		if r.Requests == 0 || r.Failed()+r.ClosedPolitely+r.ClosedIdle+r.ResetAfter+r.LeftOpen > 0 {
			t.Errorf("not a request may fail and not a connection be closed:\n%s", r)
		}
	}
}

// canary begins one of the n-th version, which stays at its step until a promote. Who asked
// for it does not wait.
func (w *world) canary(n int) {
	w.t.Helper()
	w.worker(w.present.Demo, n, shortBake)
	go func() { // ends with the master that it asks
		_, _ = w.API.Reload(w.t.Context(), api.ReloadRequest{Label: w.label(n), Canary: "20%"}, nil)
	}()
	w.step(n)
}

// step waits until the n-th version has its share.
func (w *world) step(n int) {
	w.t.Helper()
	err := w.Wait(w.t.Context(), patience, "a canary with its share", func(st api.Status) bool {
		if st.Rollout == nil || st.Rollout.Stage != "canary" || st.Rollout.Step != 1 || len(st.Generations) != 2 {
			return false
		}
		for _, g := range st.Generations {
			if want := map[bool]float64{true: 20, false: 80}[g.Version.Label == w.label(n)]; g.Share != want {
				return false
			}
			for _, k := range g.Workers {
				if !k.Healthy || k.Restarts > 0 || k.Protocol == 0 {
					return false
				}
			}
		}
		return true
	})
	if err != nil {
		w.t.Fatal(err)
	}
}

// rests waits until the n-th version is all there is.
func (w *world) rests(n int) {
	w.t.Helper()
	err := w.Wait(w.t.Context(), patience, "one version, baked", func(st api.Status) bool {
		return st.State == "serving" && st.Rollout == nil && len(st.Generations) == 1 && st.Generations[0].Version.Label == w.label(n)
	})
	if err != nil {
		w.t.Fatal(err)
	}
}

// to has another masterd go on.
func (w *world) to(p service.Programs) {
	w.t.Helper()
	was := w.status().Master.PID
	w.master(p)
	w.must("upgrade")
	if is := w.status().Master; is.PID != was {
		w.t.Errorf("master %d, and not %d, goes on", is.PID, was)
	}
}
