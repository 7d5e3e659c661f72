package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/masterd/masterd/pkg/api"
)

// TestNothingIsLeftBehind: what a reload takes it gives back.
func TestNothingIsLeftBehind(t *testing.T) {
	t.Parallel()
	s := started(t, nil)
	s.Config.Set("rollout.bake", "0s")
	count := func(pattern string) int {
		all, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		return len(all)
	}
	alone := func() (fds, outputs, versions int) {
		wait(t, s, "the old generations to leave", func(st api.Status) bool { return len(st.Generations) == 1 })
		return count(fmt.Sprintf("/proc/%d/fd/*", s.PID())), count(filepath.Join(s.Dir, "run", "out", "*")), count(filepath.Join(s.Dir, "state", "versions", "*"))
	}
	n := 2
	many := func(times int) {
		for range times {
			next(t, s, n, "baked")
			n++
		}
	}
	many(8) // more versions than are kept
	fds, outputs, versions := alone()
	many(times(200, 6)) // more than what is to spare below
	// Connections of the questions come and go.
	const spare = 4
	eventually(t, "as few descriptors, outputs and versions as before", func() bool {
		f, o, v := alone()
		if t.Failed() || f <= fds+spare && o <= outputs+spare && v <= versions+spare {
			return true
		}
		t.Logf("%d descriptors, before %d; %d outputs, before %d; %d versions, before %d", f, fds, o, outputs, v, versions)
		return false
	})
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", s.PID()))
	if err == nil && len(children) > 32 {
		t.Errorf("children %s", children)
	}
}
