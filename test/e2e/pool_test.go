package e2e

import (
	"errors"
	"fmt"
	"syscall"
	"testing"

	"github.com/masterd/masterd/test/service"
)

// A reload to more processes than the pool of slots was made for is taken, and so
// are those after it, also after a change by `masterd scale`.
func TestPoolGrowsWithItsConfiguration(t *testing.T) {
	t.Parallel()
	s := newService(t)
	s.Config.Set("worker.kind", "socket-activation").Set("worker.processes", 2)
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	baked(t, s)
	underLoad(t, s, quietRate(), func() {
		// Two generations of this many do not fit into what the first configuration has
		// made, and so the second reload was refused.
		const many, more = 9, 19
		s.Config.Set("worker.processes", many)
		i := 2
		for ; i < 2+times(3, 2); i++ {
			next(t, s, i, "baked")
			wait(t, s, "many workers", manned(many))
		}
		s.Config.Set("worker.processes", 1)
		next(t, s, i, "baked")
		cli(t, s, 0, "scale", fmt.Sprint(more)) // of which two do not fit either
		wait(t, s, "more workers", manned(more))
		s.Config.Set("worker.processes", more)
		next(t, s, i+1, "baked")
		s.Config.Set("worker.processes", 2)
		next(t, s, i+2, "baked")
	})
}

// Everything but the keeper dies, and the next master is to have fewer processes
// than the last one: it starts all the same, and who has waited is served.
func TestFewerProcessesAfterADeath(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"socket-activation", "sdk"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			s := newService(t)
			s.Config.Set("worker.kind", kind).Set("worker.processes", 10)
			if err := s.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			baked(t, s)
			killAllButKeeper(t, s)
			s.Config.Set("worker.processes", 2)
			if err := s.Start(t.Context()); err != nil {
				t.Fatalf("%v\n%s", err, s.Log(10))
			}
			wait(t, s, "two workers", manned(2))
			for range 20 {
				if code, _, err := ask(s.Addr, "/ping", patience); err != nil || code != 200 {
					t.Fatal(code, err)
				}
			}
			next(t, s, 2, "baked")
		})
	}
}

func killAllButKeeper(t *testing.T, s *service.Service) {
	t.Helper()
	st := status(t, s)
	s.Kill()
	for _, pid := range pids(st) {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	for _, pid := range pids(st) {
		eventually(t, "a worker to be gone", func() bool { return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) })
	}
}
