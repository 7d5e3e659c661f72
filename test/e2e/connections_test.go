package e2e

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/test/load"
	"github.com/masterd/masterd/test/service"
)

// Connections of programs that cannot be asked to let them go.

// answering is a service of a program whose answers take their time.
func answering(t *testing.T, drain string) *service.Service {
	t.Helper()
	s := unprepared(t)
	s.Config.Set("worker.command", []string{programs.Answers, s.Addr}).Set("rollout.bake", "0s").Set("drain.timeout", drain)
	return s
}

// Kept connections that are never left alone for long, through reloads: each is closed at a
// moment at which its client does not ask.
func TestKeptConnectionsAreClosedOneAtATime(t *testing.T) {
	besideOthers(t)
	for _, kept := range []int{16, 64} {
		t.Run(fmt.Sprint(kept), func(t *testing.T) {
			t.Parallel()
			s := answering(t, "20s")
			if err := s.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(context.Background())
			l := load.Start(ctx, load.Plan{Addr: s.Addr, Rate: 11 * kept, Kept: kept})
			end := sync.OnceValue(func() *load.Result { cancel(); return l.Wait() })
			t.Cleanup(func() { end() })
			for i := 2; i <= times(30, 2)+1; i++ {
				next(t, s, i, "serving")
				drainedAway(t, s)
			}
			closedInTime(t, end())
			if st := status(t, s); st.LastCut != nil { // so busy a machine finds no quiet moment in time
				t.Logf("something was cut: %s", st.LastCut.Reason)
			}
		})
	}
}

// closedInTime tells whether the connections of a program that cannot announce their end were
// closed, but where their clients could see it before they asked again. One request in 10,000
// is the aim; a busy machine takes a client off its processor between its look at the
// connection and its request.
func closedInTime(t *testing.T, res *load.Result) {
	t.Helper()
	lost := res.FailedKept - res.Failures[load.GoneIdle].Kept
	t.Logf("%d lost of %d requests on kept connections, %d of which were closed\n%s", lost, res.Kept, res.ClosedIdle, res)
	if most := 3 + res.Kept/10_000; lost > most {
		t.Errorf("%d requests were lost, at most %d of so many may be", lost, most)
	}
}

// drainedAway waits until nobody drains any more.
func drainedAway(t *testing.T, s *service.Service) {
	t.Helper()
	wait(t, s, "the old version to be gone", func(st api.Status) bool { return len(st.Generations) == 1 })
}
