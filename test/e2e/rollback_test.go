package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/test/service"
)

// migration is a service whose first version is told of in one way and its second in
// another: what people do who move a program from one framework, or kind, to the next.
type migration struct {
	name        string
	first, then func(s *service.Service)
}

func set(pairs ...any) func(s *service.Service) {
	return func(s *service.Service) {
		for i := 0; i < len(pairs); i += 2 {
			s.Config.Set(pairs[i].(string), pairs[i+1])
		}
	}
}

// plainly has the service be a program that was never prepared.
func plainly(health string) func(s *service.Service) {
	return func(s *service.Service) {
		set("worker.kind", "unmodified", "worker.command", []string{programs.Plain, port(s.Addr)}, "worker.env.HEALTH", health,
			"worker.ready", "auto", "health.http", map[string]any{"path": health})(s)
	}
}

// natively has it be one that is built on the worker package.
func natively(s *service.Service) {
	set("worker.kind", "sdk", "worker.command", []string{programs.Demo}, "health.http", map[string]any{"path": "/healthz"})(s)
}

func migrations() []migration {
	return []migration{
		{"health", plainly("/health"), plainly("/healthz")},
		{"to the SDK", plainly("/health"), natively},
		{"from the SDK", natively, plainly("/health")},
		{"ready", plainly("/health"), func(s *service.Service) {
			set("worker.kind", "unmodified", "worker.command", []string{programs.Hostile, "serves", s.Addr}, "worker.ready", "notify",
				"health.http", map[string]any{"path": "/"})(s)
		}},
		{"a listener's name", func(s *service.Service) {
			natively(s)
			set("listeners", listeners("http", "tcp://"+s.Addr), "worker.env.DEMO_LISTENERS", "http")(s)
		}, func(s *service.Service) {
			natively(s)
			set("listeners", listeners("web", "tcp://"+s.Addr), "worker.env.DEMO_LISTENERS", "web")(s)
		}},
	}
}

// migrated brings the second version into service and waits until nothing of the first is
// left: a way back has to start it again. It returns the ids of both.
func migrated(t *testing.T, m migration) (s *service.Service, first, second string) {
	t.Helper()
	s = newService(t)
	s.Config.Set("rollout.bake", "100ms").Set("drain.timeout", "2s").Set("health.start.timeout", "3s").Set("worker.env.RELEASE", "v1")
	m.first(s)
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	baked(t, s)
	first = status(t, s).Active.Version.ID
	m.then(s)
	next(t, s, 2, "baked")
	alone(t, s)
	return s, first, status(t, s).Active.Version.ID
}

// runs waits until a version has the traffic, by itself, and is well.
func runs(t *testing.T, s *service.Service, id string) {
	t.Helper()
	wait(t, s, "version "+id, func(st api.Status) bool {
		if st.Active == nil || st.Active.Version.ID != id || !st.Active.Baked || len(st.Generations) != 1 {
			return false
		}
		w := team(st)
		return len(w) == 1 && w[0].Phase == "active" && w[0].Healthy
	})
	if _, _, err := ask(s.Addr, "/", patience); err != nil {
		t.Error(err)
	}
}

// A rollback to a version that has ended brings back how it is spoken to, checked and
// called: by hand, by name, and once more after masters have died; and the other way again.
func TestRollbackBringsBackItsSettings(t *testing.T) {
	besideOthers(t)
	for _, m := range migrations() {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			s, first, second := migrated(t, m)
			back(t, s, "")
			runs(t, s, first)
			// Whoever is master next runs it as it is run.
			s.Kill()
			if err := s.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			died := team(status(t, s))[0].PID
			if err := syscall.Kill(died, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			wait(t, s, "its replacement", func(st api.Status) bool { return len(team(st)) == 1 && team(st)[0].PID != died })
			runs(t, s, first)
			back(t, s, second)
			runs(t, s, second)
			// And a reload takes what is on disk.
			m.first(s)
			next(t, s, 3, "baked")
		})
	}
}

// A crash loop goes back in the same way.
func TestCrashLoopBringsBackItsSettings(t *testing.T) {
	besideOthers(t)
	for _, m := range migrations()[:3] {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			then := m.then
			m.then = func(s *service.Service) {
				then(s)
				s.Config.Set("restart.loop", 3).Set("restart.max", "200ms").Set("rollout.cooldown", "0s")
			}
			s, first, second := migrated(t, m)
			died := map[int]bool{}
			eventually(t, "somebody to go back", func() bool {
				st := status(t, s)
				if st.Active.Version.ID != second {
					return true
				}
				for _, w := range team(st) {
					if w.PID != 0 && !died[w.PID] && st.Rollout == nil && st.LastFailure == nil {
						died[w.PID] = true
						_ = syscall.Kill(w.PID, syscall.SIGKILL)
					}
				}
				if st.LastFailure != nil {
					t.Fatalf("%+v", st.LastFailure)
				}
				return false
			})
			runs(t, s, first)
		})
	}
}

// A service whose configuration does not start falls back to its last good version, as that was
// run; and so it goes on when its master dies.
func TestStartFallsBackToAVersionAsItWas(t *testing.T) {
	besideOthers(t)
	for _, m := range migrations()[:3] {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			s := newService(t)
			s.Config.Set("rollout.bake", "100ms").Set("drain.timeout", "2s").Set("health.start.timeout", "3s")
			m.first(s)
			if err := s.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			baked(t, s)
			first := status(t, s).Active.Version.ID
			if err := s.Stop(); err != nil {
				t.Fatal(err)
			}
			m.then(s)
			s.Config.Set("worker.command", []string{programs.Hostile, "exits", s.Addr})
			if err := s.Write(); err != nil {
				t.Fatal(err)
			}
			if err := s.Launch(); err != nil {
				t.Fatal(err)
			}
			runs(t, s, first)
			s.Kill()
			if err := s.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			runs(t, s, first)
		})
	}
}

// What a way back says and what is said of it: a version without settings of its own, one whose
// settings are no good, one that was never baked.
func TestRollbackSaysWhatItIsRunWith(t *testing.T) {
	t.Parallel()
	s, first, second := migrated(t, migrations()[0])
	differ := func(want string) {
		t.Helper()
		if got := status(t, s).FileDiffers; !strings.Contains(got, want) || want == "" && got != "" {
			t.Errorf("status says of the file %q, want %q", got, want)
		}
	}
	differ("")
	diff := cli(t, s, 0, "versions", "diff", first, second)
	for _, want := range []string{"~ setting health.http.path: /health -> /healthz", "env HEALTH"} {
		if !strings.Contains(diff, want) {
			t.Errorf("%s\ndoes not say %s", diff, want)
		}
	}
	if list := cli(t, s, 0, "versions"); strings.Contains(list, "today's settings") {
		t.Error(list)
	}
	back(t, s, "")
	runs(t, s, first)
	differ("was rolled back")
	s.Kill() // the next master does not know what was tried
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	differ(" is as version ")
	back(t, s, second)
	runs(t, s, second)

	// As an earlier masterd has kept it, and as one does of which this one knows less.
	for settings, want := range map[string]string{
		"": "without its own settings, so today's settings are used",
		`{"listeners":[{"name":"http","address":"tcp://x"}],"keys":{"worker.preset":"zope"}}`: `worker.preset: "zope" is not one of`,
	} {
		if err := s.Stop(); err != nil {
			t.Fatal(err)
		}
		rewrite(t, s, first, settings)
		if err := s.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		baked(t, s)
		if list := cli(t, s, 0, "versions"); strings.Contains(list, "today's settings") != (settings == "") {
			t.Error(list)
		}
		out, err := s.API.Rollback(t.Context(), api.RollbackRequest{Version: first}, nil)
		if err != nil || out.Result != api.ResultFailed || !strings.Contains(out.Reason, want) || !strings.Contains(out.Reason, "404") {
			t.Errorf("%+v, %v does not say %s", out, err, want)
		}
		logged(t, s, strings.ReplaceAll(want, `"`, `\"`))
	}
}

// rewrite changes what a version has kept of its settings; empty: it has kept none.
func rewrite(t *testing.T, s *service.Service, id, settings string) {
	t.Helper()
	path := filepath.Join(s.Dir, "state", "versions", id, "meta.json")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var r map[string]any
	if err := json.Unmarshal(text, &r); err != nil {
		t.Fatal(err)
	}
	delete(r, "settings")
	delete(r, "proven")
	if settings != "" {
		r["settings"] = json.RawMessage(settings)
	}
	if text, err = json.Marshal(r); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

// A version that was never baked is not gone back to by itself; who asks is told its id.
func TestRollbackNamesWhatWasNeverBaked(t *testing.T) {
	t.Parallel()
	s := started(t, func(c service.Config) { c.Set("rollout.bake", "1h") })
	first := status(t, s).Active.Version.ID
	s.Config.Set("drain.timeout", "1s")
	next(t, s, 2, "serving")
	next(t, s, 3, "serving") // nothing was baked: the second takes the place that the first had
	cli(t, s, 0, "promote")
	alone(t, s)
	out := cli(t, s, 1, "rollback")
	status := cli(t, s, 0, "status")
	var stored []string
	list, err := s.API.Versions(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range list {
		if v.Use == "" {
			stored = append(stored, v.ID)
		}
	}
	if len(stored) != 2 || stored[1] != first || !strings.Contains(out, "masterd rollback "+stored[0]) || !strings.Contains(status, "masterd rollback "+stored[0]) {
		t.Fatalf("of %v it says %s\n%s", stored, out, status)
	}
	cli(t, s, 0, "rollback", stored[0])
	serves(t, s, "v2")
}
