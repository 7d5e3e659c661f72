package master

import (
	"errors"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/pkg/master/config"
	"github.com/masterd/masterd/pkg/master/proc"
	"github.com/masterd/masterd/pkg/master/rollout"
)

// One unexpected exit may be chance. From the second within the window on the service is
// degraded, until time has passed; the status tells how many there were and why.
func TestLoopIsDegraded(t *testing.T) {
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	ago := func(ds ...time.Duration) (ts []time.Time) {
		for _, d := range ds {
			ts = append(ts, now.Add(-d))
		}
		return ts
	}
	for name, x := range map[string]struct {
		exits []time.Time
		last  string
		want  string
	}{
		"none":    {},
		"one":     {exits: ago(time.Second)},
		"two":     {exits: ago(time.Minute, time.Second), last: "panic: oh", want: "Workers ended unexpectedly 2 times within restart.loop_window (1m0s). The last one, worker 7, exited: exit status 2. Its last line: panic: oh"},
		"silent":  {exits: ago(9*time.Second, time.Second), want: "Workers ended unexpectedly 2 times within restart.loop_window (1m0s). The last one, worker 7, exited: exit status 2. It wrote nothing."},
		"old":     {exits: ago(2*time.Minute, time.Second)},
		"all old": {exits: ago(3*time.Minute, 2*time.Minute)},
	} {
		st := rollout.Status{Serving: true, Active: 3, Generations: []rollout.GenerationStatus{
			{ID: 2, Exits: ago(1, 2, 3), Window: time.Minute},
			{ID: 3, Exits: x.exits, Window: time.Minute, Ended: rollout.Ending{Worker: 7, How: "exited: exit status 2"}},
		}}
		state, why := judge(st, api.Status{Now: now}, "", func(w rollout.Worker) string {
			if w != 7 {
				t.Errorf("worker %d is asked for its last line", w)
			}
			return x.last
		})
		if want := "serving"; x.want == "" && (state != want || len(why) != 0) || x.want != "" && (state != "degraded" || len(why) != 1 || why[0] != x.want) {
			t.Errorf("%s: %s %q", name, state, why)
		}
	}
}

// The line that the service manager shows says so too, and drops it with time alone.
func TestManagerIsToldOfALoop(t *testing.T) {
	cfg := testConfig()
	cfg.Restart.Loop = 100
	run(t, cfg, func(w *world, m *Master) {
		var line string // the loop's
		w.is("v1", behaviour{exit: 10 * time.Second})
		m.ask(func() {
			m.opt.Notify = func(s string) {
				if _, status, ok := strings.Cut(s, "STATUS="); ok {
					line, _, _ = strings.Cut(status, "\n")
				}
			}
		})
		said := func(text string) func() bool {
			return func() bool { var l string; m.ask(func() { l = line }); return strings.Contains(l, text) }
		}
		until(t, "the loop is said", said("degraded: Workers ended unexpectedly 2 times"))
		w.is("v1", behaviour{})
		until(t, "it is over", func() bool { return !said("degraded")() })
	})
}

// A complaint about a file ends when the file can be used again, also where nobody
// looks at the status.
func TestMendedFileIsNoTrouble(t *testing.T) {
	run(t, testConfig(), func(w *world, m *Master) {
		until(t, "v1 serves", serves(w, "v1"))
		broken, reread := true, m.opt.Reread
		m.ask(func() {
			m.degraded = "The configuration cannot be used."
			m.opt.Reread = func() (*config.Config, error) {
				if broken {
					return nil, errors.New("not valid YAML")
				}
				return reread()
			}
		})
		time.Sleep(10 * defaultPulse)
		if st := (backend{m}).Status(); st.State != "degraded" || st.Reasons[0] != "The configuration cannot be used." {
			t.Errorf("%s %q", st.State, st.Reasons)
		}
		m.ask(func() { broken = false })
		if st := (backend{m}).Status(); st.State != "serving" {
			t.Errorf("mended: %s %q", st.State, st.Reasons)
		}
		until(t, "it is forgotten", func() bool { var d string; m.ask(func() { d = m.degraded }); return d == "" })
	})
}

// stray is a process that heeds no signal but KILL.
type stray struct {
	process
	done   chan struct{}
	killed time.Time
}

func (s *stray) Done() <-chan struct{} { return s.done }
func (s *stray) Exit() proc.Exit       { return proc.Exit{} }
func (s *stray) Close()                {}
func (s *stray) Signal(sig syscall.Signal) error {
	if sig == syscall.SIGKILL {
		s.killed = time.Now()
		close(s.done)
	}
	return nil
}

// Who is not known may finish what it has like any other: for drain.timeout, which 0
// makes endless.
func TestStrangersHaveTheTimeOfADrain(t *testing.T) {
	for _, limit := range []time.Duration{0, time.Minute} {
		cfg := testConfig()
		cfg.Drain.Timeout = limit
		s := &stray{done: make(chan struct{})}
		var began time.Time
		run(t, cfg, func(w *world, m *Master) {
			s.done = make(chan struct{}) // of the bubble
			until(t, "v1 serves", serves(w, "v1"))
			m.ask(func() {
				began = time.Now()
				m.unknown = append(m.unknown, unknown{id: 99, leaders: []process{s}})
				m.endUnknown()
			})
			time.Sleep(time.Hour)
			synctest.Wait()
			switch {
			case limit == 0 && !s.killed.IsZero():
				t.Errorf("it was killed after %s, and drain.timeout is 0", s.killed.Sub(began))
			case limit > 0 && s.killed.Sub(began) != limit+cfg.Drain.KillAfter:
				t.Errorf("it was killed after %s", s.killed.Sub(began))
			}
		})
		if limit == 0 && s.killed.IsZero() {
			t.Error("it outlives the service")
		}
	}
}

// A worker with very many processes does not keep the master busy for those who ask for
// the status, however many they are; what has few is looked at each time.
func TestUseOfManyProcessesIsLookedAtSeldom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var u uses
		looks := 0
		usage := func(int) (int64, int) {
			looks++
			time.Sleep(time.Millisecond)
			return 10, 1
		}
		ask := func(id uint64, processes int) {
			t.Helper()
			w := api.Worker{ID: id}
			u.of(&w, func() []int { return make([]int, processes) }, usage)
			if w.Processes != processes || w.RSS != int64(10*processes) || w.FDs != processes {
				t.Errorf("%d processes: %+v", processes, w)
			}
		}
		begun := time.Now()
		for range 1000 {
			ask(1, 400)
		}
		if looks != 400 || time.Since(begun) != 400*time.Millisecond {
			t.Errorf("for 1,000 who ask %d looks, which took %s", looks, time.Since(begun))
		}
		time.Sleep(4 * time.Second)
		ask(1, 300)
		looks = 0
		for range 5 {
			ask(2, 1)
			time.Sleep(10 * time.Millisecond)
		}
		if looks != 5 {
			t.Errorf("one process was looked at %d times of 5", looks)
		}
		time.Sleep(time.Minute)
		ask(3, 1)
		if len(u.last) != 1 {
			t.Errorf("workers that are gone are kept: %v", u.last)
		}
	})
}
