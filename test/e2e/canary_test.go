package e2e

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/test/load"
	"github.com/masterd/masterd/test/service"
)

// steps are those of a canary, each "10%" or "10%:1s".
func steps(of ...string) []any {
	var list []any
	for _, s := range of {
		weight, hold, held := strings.Cut(s, ":")
		step := map[string]any{"weight": weight}
		if held {
			step["hold"] = hold
		}
		list = append(list, step)
	}
	return list
}

// canary is a service whose first version is baked, and whose next go by steps.
func canary(t *testing.T, of ...string) *service.Service {
	t.Helper()
	s := newService(t)
	s.Config.Set("rollout.canary.steps", steps(of...)).Set("worker.env.RELEASE", "v1")
	return s
}

// atStep waits until a canary is at a step.
func atStep(t *testing.T, s *service.Service, n int) {
	t.Helper()
	wait(t, s, fmt.Sprintf("step %d of the canary", n), func(st api.Status) bool {
		return st.Rollout != nil && st.Rollout.Stage == "canary" && st.Rollout.Step == n
	})
}

// draws is how many new connections look for who has them.
const draws = 400

// split holds what new connections get against a part, in percent, and what the status says
// of it, too. A fair draw is further away once in ten million times.
func split(t *testing.T, s *service.Service, version string, part float64) {
	t.Helper()
	c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience}
	met := map[string]float64{}
	for range draws {
		res, err := c.Get("http://" + s.Addr + "/healthz")
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		met[res.Header.Get("X-Worker-Version")]++
	}
	got, want := met[version], draws*part/100
	if off := 5.4*math.Sqrt(want*(1-part/100)) + 1; math.Abs(got-want) > off {
		t.Errorf("%s has %.0f of %d new connections, and %g%% should be %.0f ± %.0f: %v", version, got, draws, part, want, off, met)
	}
	for _, g := range status(t, s).Generations {
		if g.Version.Label == version && math.Abs(g.Share-part) > 0.01 {
			t.Errorf("status says that %s has %g%%, and it is %g%%", version, g.Share, part)
		}
	}
}

// whole waits until a generation has all new connections, and has nobody meet another one.
func whole(t *testing.T, s *service.Service, generation uint64, version string) {
	t.Helper()
	wait(t, s, version+" to have all new connections", func(st api.Status) bool {
		for _, g := range st.Generations {
			if g.ID == generation {
				return g.Share == 100
			}
		}
		return false
	})
	split(t, s, version, 100)
}

// Steps walk to all the traffic under load, by time and by hand, with each kind of worker.
func TestCanary(t *testing.T) {
	besideOthers(t)
	for _, kind := range []string{"sdk", "socket-activation", "unmodified"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			s := canary(t, "10%", "25%:1s", "60%")
			s.Config.Set("worker.kind", kind)
			switch kind {
			case "socket-activation":
				s.Config.Set("worker.command", []string{programs.Hostile, "serves", s.Addr})
			case "unmodified":
				s.Config.Set("worker.command", []string{programs.Plain, s.Addr})
			}
			if err := s.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			baked(t, s)
			walk := func() {
				s.Config.Set("worker.env.RELEASE", "v2")
				if err := s.Write(); err != nil {
					t.Fatal(err)
				}
				r := begin(t, s, "reload", "--label", "v2")
				atStep(t, s, 1)
				split(t, s, "v2", 10)
				proposed(t, s, 0, "promote")
				atStep(t, s, 3) // the second has a time
				split(t, s, "v2", 60)
				proposed(t, s, 0, "promote")
				whole(t, s, 2, "v2")
				r.ended(t, 0)
				for _, line := range []string{"10% of new connections, step 1 of 3; waits for `masterd promote`",
					"25% of new connections, step 2 of 3, for 1s", "60% of new connections, step 3 of 3"} {
					if !strings.Contains(r.out.String(), line) {
						t.Errorf("reload did not say %q:\n%s", line, r.out)
					}
				}
				baked(t, s)
			}
			if kind != "sdk" {
				freshly(t, s, walk)
				return
			}
			if res := underLoad(t, s, quietRate(), walk); res.ClosedIdle > 0 || res.ClosedPolitely > 0 {
				t.Errorf("connections were closed:\n%s", res)
			}
		})
	}
}

// What stops, hurries and takes back a canary.
func TestCanaryByHand(t *testing.T) {
	t.Parallel()
	s := canary(t, "50%", "75%:1s", "90%")
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	baked(t, s)
	ctx, cancel := context.WithCancel(t.Context())
	l := load.Start(ctx, load.Plan{Addr: s.Addr, Rate: quietRate(), Kept: 32, Path: "/upload", Body: 512})
	end := sync.OnceValue(func() *load.Result { cancel(); return l.Wait() })
	t.Cleanup(func() { end() })

	released := func(version string) {
		t.Helper()
		s.Config.Set("worker.env.RELEASE", version)
		if err := s.Write(); err != nil {
			t.Fatal(err)
		}
	}
	first := status(t, s).Active.Version.Label
	released("v2")
	r := begin(t, s, "reload", "--label", "v2")
	atStep(t, s, 1)
	cli(t, s, 0, "pause", "the queue", "grows")
	cli(t, s, 1, "pause")
	paused := status(t, s)
	if p := paused.Rollout.Paused; !strings.Contains(p, "the queue grows") || !paused.Rollout.Deadline.IsZero() {
		t.Errorf("it is paused by %q until %s", p, paused.Rollout.Deadline)
	}
	cli(t, s, 0, "promote") // a person may
	atStep(t, s, 2)
	wait(t, s, "the time of the step to be over twice", func(st api.Status) bool {
		return st.Now.Sub(st.Rollout.Since).Seconds() > 2
	})
	if st := status(t, s); st.Rollout.Step != 2 || st.Rollout.Paused == "" {
		t.Fatalf("it went on although it was paused: %+v", st.Rollout)
	}
	proposed(t, s, 0, "resume")
	cli(t, s, 1, "resume")
	atStep(t, s, 3)
	cli(t, s, 0, "abort", "--reason", "too slow")
	r.ended(t, 4)
	whole(t, s, 1, first)
	wait(t, s, "the candidate to be gone", func(st api.Status) bool { return len(st.Generations) == 1 })
	before := l.Snapshot() // those who kept a connection are back, too
	var after *load.Result
	eventually(t, "more requests", func() bool {
		after = l.Snapshot()
		return after.Requests > before.Requests+100
	})
	if more := after.Versions["v2"].Count - before.Versions["v2"].Count; more > 0 {
		t.Errorf("%d requests still met v2", more)
	}
	if before.Versions["v2"].Count == 0 {
		t.Error("no kept connection has met v2 in a step")
	}

	released("v3")
	r = begin(t, s, "reload", "--label", "v3", "--canary", "5%,20%")
	atStep(t, s, 1)
	cli(t, s, 0, "promote", "--all")
	r.ended(t, 0)
	baked(t, s)
	if d := status(t, s).FileDiffers; d != "" {
		t.Errorf("the steps of one reload are held against the file: %s", d)
	}
	released("v4")
	cli(t, s, 0, "reload", "--label", "v4", "--skip-canary")
	baked(t, s)
	released("v5")
	if err := s.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	atStep(t, s, 1) // the configured ones
	cli(t, s, 0, "rollback")
	whole(t, s, 4, "v4")
	if res := end(); res.Failed() > 0 || res.ClosedIdle > 0 || res.ClosedPolitely > 0 {
		t.Errorf("%s", res)
	}
}

// A candidate that dies in a step is taken back at once.
func TestCanaryDies(t *testing.T) {
	t.Parallel()
	s := canary(t, "1%")
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	baked(t, s)
	r := begin(t, s, "reload", "--label", "v2")
	atStep(t, s, 1)
	for _, g := range status(t, s).Generations {
		if g.Version.Label == "v2" {
			if err := syscall.Kill(g.Workers[0].PID, syscall.SIGSEGV); err != nil {
				t.Fatal(err)
			}
		}
	}
	r.ended(t, 4)
	if !strings.Contains(r.out.String(), "was taken back at 1% of new connections") {
		t.Errorf("%s", r.out)
	}
	st := status(t, s)
	if st.State != "serving" || st.Active.Generation != 1 {
		t.Errorf("%s, generation %d", st.State, st.Active.Generation)
	}
}

// What cannot be split is refused with what to do, by a check and by a reload.
func TestCanaryIsRefused(t *testing.T) {
	t.Parallel()
	for name, x := range map[string]struct {
		key   string
		value any
		want  string
	}{
		"replace":      {"rollout.surge", "replace", "rollout.surge is replace"},
		"one":          {"rollout.surge", "one", "rollout.surge is one"},
		"a Unix one":   {"listeners", listeners("http", "unix:///run/x.sock"), "listener http is a Unix socket"},
		"no listeners": {"listeners", []any{}, "there are no listeners"},
		"shared":       {"listeners", []any{map[string]any{"name": "http", "address": "tcp://127.0.0.1:1", "steering": "shared"}}, "listener http has steering: shared"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := started(t, nil)
			if strings.HasPrefix(name, "no") {
				s.Config.Set("health.http", "none")
			}
			s.Config.Set(x.key, x.value)
			if err := s.Write(); err != nil {
				t.Fatal(err)
			}
			if out := cli(t, s, 2, "reload", "--canary", "5%"); !strings.Contains(out, x.want) || !strings.Contains(out, "leave the steps out") {
				t.Errorf("reload --canary: %s", out)
			}
			s.Config.Set("rollout.canary.steps", steps("5%"))
			if err := s.Write(); err != nil {
				t.Fatal(err)
			}
			for _, verb := range []string{"check", "reload"} {
				if out := cli(t, s, 2, verb); !strings.Contains(out, "rollout.canary.steps: "+x.want) {
					t.Errorf("%s: %s", verb, out)
				}
			}
		})
	}
}

// A master that is killed in a step, or upgraded, leaves the weights as they are, and the
// next one goes on with the steps.
func TestCanaryOutlivesItsMaster(t *testing.T) {
	besideOthers(t)
	for _, way := range []string{"killed", "upgraded"} {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			s := canary(t, "20%", "50%:1s", "60%")
			if err := s.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			baked(t, s)
			end := mixed(t, s)
			s.Config.Set("worker.env.RELEASE", "v2")
			if err := s.Write(); err != nil {
				t.Fatal(err)
			}
			cli(t, s, 0, "reload", "--label", "v2", "--detach")
			atStep(t, s, 1)
			if way == "killed" {
				s.Kill()
				if err := s.Start(t.Context()); err != nil {
					t.Fatal(err)
				}
			} else {
				cli(t, s, 0, "upgrade")
			}
			atStep(t, s, 1)
			split(t, s, "v2", 20)
			cli(t, s, 0, "promote")
			atStep(t, s, 3)
			split(t, s, "v2", 60)
			cli(t, s, 0, "promote")
			whole(t, s, 2, "v2")
			baked(t, s)
			if res := end(); res.Failed() > 0 {
				t.Errorf("%s", res)
			}
		})
	}
}
