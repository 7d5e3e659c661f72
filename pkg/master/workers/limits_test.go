package workers

import (
	"testing"

	"github.com/masterd/masterd/pkg/master/config"
	"github.com/masterd/masterd/pkg/master/contain"
	"github.com/masterd/masterd/pkg/master/proc"
)

// A worker in a scope takes nothing from what bounds the master, and has no limit of its
// user's unless one is configured: the kernel would count other versions, too.
func TestWorkersInScopesHaveNoDefaultOfProcesses(t *testing.T) {
	set := New(Options{System: System{
		Processes: func(int) uint64 { return 50 },
		Bounding:  func() uint64 { return 0 },
	}})
	for _, c := range []struct {
		limits           contain.Limits
		configured, want uint64
	}{
		{contain.Limits{}, 0, 50},
		{contain.Limits{}, 20, 20},
		{contain.Limits{Tasks: 100}, 0, 0},
		{contain.Limits{Memory: 1 << 30}, 0, 0},
		{contain.Limits{MemoryHigh: 1 << 30}, 0, 0},
		{contain.Limits{Tasks: 100}, 20, 20},
	} {
		var spec proc.Spec
		set.bind(&spec, &config.Worker{NProc: c.configured, NoNewPrivs: "yes"}, c.limits, 1)
		if spec.Processes != c.want {
			t.Errorf("%+v, %d configured: %d, want %d", c.limits, c.configured, spec.Processes, c.want)
		}
	}
}
