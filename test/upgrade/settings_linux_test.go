package upgrade

import (
	"strings"
	"syscall"
	"testing"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/test/service"
	"github.com/masterd/masterd/test/service/servicetest"
)

// TestRollbackAcrossKindsAndMasters: a version that the masterd before has started is of
// another kind than the next, and is checked elsewhere. This masterd goes back to it as it
// was run; the one before then goes on with it so, which it knows nothing of; and
// this one once more.
func TestRollbackAcrossKindsAndMasters(t *testing.T) {
	before, present := builtPrograms(t)
	dir := servicetest.ShortDir(t)
	s := servicetest.In(t, service.Programs{Masterd: dir + "/masterd", Demo: present.Demo}, dir)
	w := &world{Service: s, t: t, kind: "unmodified", before: before, present: present}
	s.Config.Set("worker.kind", "unmodified").Set("worker.command", []string{present.Plain, s.Addr}).Set("worker.env.HEALTH", "/health").
		Set("health.http", map[string]any{"path": "/health"}).Set("drain.timeout", "2s").Set("health.start.timeout", "5s").Set("rollout.bake", shortBake)
	w.master(before)
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	first := w.runs("")
	w.other(present)
	s.Config.Set("worker.kind", "sdk").Set("worker.command", []string{present.Demo}).Set("health.http", map[string]any{"path": "/healthz"})
	if err := w.Write(); err != nil {
		t.Fatal(err)
	}
	w.must("reload", "--label", "v2", "--until", "baked")
	second := w.runs("")
	if list, code := w.CLI(t.Context(), "versions"); code != 0 || strings.Contains(list, "today's settings") {
		t.Errorf("a version that ran at the upgrade has no settings of its own: %s", list)
	}
	w.must("rollback")
	w.runs(first)
	w.other(before)
	w.dies(first)
	w.other(present)
	w.dies(first)
	w.must("rollback", "v2")
	w.runs(second)
}

// other has another masterd run.
func (w *world) other(p service.Programs) {
	w.t.Helper()
	w.master(p)
	w.must("upgrade")
}

// runs waits until a version, or any, has the traffic by itself and is well, and says which.
func (w *world) runs(id string) string {
	w.t.Helper()
	if err := w.Wait(w.t.Context(), patience, "version "+id+" to serve alone", func(st api.Status) bool {
		if st.Active == nil || id != "" && st.Active.Version.ID != id || !st.Active.Baked || len(st.Generations) != 1 {
			return false
		}
		all := st.Generations[0].Workers
		return len(all) == 1 && all[0].Phase == "active" && all[0].Healthy
	}); err != nil {
		w.t.Fatal(err)
	}
	return w.status().Active.Version.ID
}

// dies kills the worker, and waits for a good replacement.
func (w *world) dies(id string) {
	w.t.Helper()
	w.runs(id)
	pid := w.status().Generations[0].Workers[0].PID
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		w.t.Fatal(err)
	}
	if err := w.Wait(w.t.Context(), patience, "a replacement", func(st api.Status) bool {
		return len(st.Generations) == 1 && len(st.Generations[0].Workers) == 1 && st.Generations[0].Workers[0].PID > 0 && st.Generations[0].Workers[0].PID != pid
	}); err != nil {
		w.t.Fatal(err)
	}
	w.runs(id)
}
