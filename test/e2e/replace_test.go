package e2e

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/test/load"
	"github.com/masterd/masterd/test/service"
)

// Programs of which two cannot live at one time, because they lock what they have.

// locking is a service of a program that locks its data and takes 50 ms to start.
func locking(t *testing.T, kind string) *service.Service {
	t.Helper()
	s := newService(t)
	command := []string{programs.Locks, filepath.Join(s.Dir, "data"), s.Addr}
	if kind == "sdk" {
		command = append(command, kind)
	}
	s.Config.Set("worker.kind", kind).Set("worker.command", command).Set("worker.env.RELEASE", "v1").
		Set("worker.env.STARTS", "50ms").Set("health.http", map[string]any{"path": "/health"}).
		Set("rollout.surge", "replace").Set("rollout.bake", "200ms").Set("unavailable.after", "5m")
	return s
}

// waiting runs story under a strict client that makes a connection for each request, and has
// the time to wait for one version to end and the next to begin. So many requests may fail.
func waiting(t *testing.T, s *service.Service, atMost uint64, story func()) *load.Result {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	l := load.Start(ctx, load.Plan{Addr: s.Addr, Rate: quietRate(), Fresh: 16, Path: "/upload", Body: 512, Timeout: 2 * time.Minute})
	end := sync.OnceValue(func() *load.Result { cancel(); return l.Wait() })
	t.Cleanup(func() { end() })
	story()
	res := end()
	if n := res.Failed(); n > atMost || res.Requests == 0 {
		t.Errorf("%d of %d requests failed:\n%s", n, res.Requests, res)
	}
	return res
}

// waited is the longest wait of a client that the history tells of since an entry.
func waited(t *testing.T, s *service.Service) (longest time.Duration, entries []api.Entry) {
	t.Helper()
	entries, err := s.API.History(t.Context(), 1000)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		longest = max(longest, time.Duration(e.WaitedMS)*time.Millisecond)
	}
	return longest, entries
}

// One version after the other, and not a request fails: those of the time between wait.
func TestOneVersionAfterTheOther(t *testing.T) {
	besideOthers(t)
	for _, kind := range []string{"unmodified", "socket-activation", "sdk"} {
		t.Run(kind, func(t *testing.T) {
			if !*full {
				t.Parallel()
			}
			s := locking(t, kind)
			if err := s.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			baked(t, s)
			n := times(100, 4)
			res := waiting(t, s, 0, func() {
				for i := 2; i <= n+1; i++ {
					next(t, s, i, "baked")
				}
			})
			told, _ := waited(t, s)
			client := time.Duration(res.LatencyFresh.Max()) * time.Microsecond
			t.Logf("%d replacements, %d requests, %d failed; longest wait of a client %v, as masterd tells it %v",
				n, res.Requests, res.Failed(), client, told)
			if told == 0 {
				t.Error("the history does not tell how long clients have waited")
			}
			text, err := os.ReadFile(filepath.Join(s.Dir, "data"))
			if want := fmt.Sprintln(n + 1); err != nil || string(text) != want {
				t.Errorf("the data was had by %q, want %q: %v", text, want, err)
			}
			if *full {
				stop, start := unmanaged(t, s)
				t.Logf("alone it takes %v to stop and %v to start, so masterd adds %v", stop, start, client-stop-start)
			}
		})
	}
}

// A version that does not come up is ended, and the one before is back.
func TestTheVersionBeforeComesBack(t *testing.T) {
	besideOthers(t)
	for _, c := range []struct{ kind, release, why string }{
		{"unmodified", "bad", "exit status 1"},
		{"socket-activation", "bad", "exit status 1"},
		{"sdk", "bad", "exit status 1"},
		{"sdk", "sick", "500"}, // with the SDK nobody gets to it before its checks
	} {
		t.Run(c.kind+"/"+c.release, func(t *testing.T) {
			t.Parallel()
			s := locking(t, c.kind)
			if err := s.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			baked(t, s)
			first := status(t, s).Active.Version.Label
			s.Config.Set("worker.env.RELEASE", c.release)
			if c.release == "sick" {
				s.Config.Set("health.start.timeout", "8s")
			}
			var out api.Outcome
			res := waiting(t, s, 0, func() {
				out = reload(t, s, api.ReloadRequest{Label: c.release})
				for _, want := range []string{c.why, "serves again, and clients waited for up to "} {
					if out.Result != api.ResultRolledBack || !strings.Contains(out.Reason, want) {
						t.Errorf("%+v does not say %q", out, want)
					}
				}
				serves(t, s, first)
			})
			told, entries := waited(t, s)
			if seen := res.Versions[c.release]; seen.Count > 0 {
				t.Errorf("%d clients have seen it", seen.Count)
			}
			if told == 0 || entries[0].Outcome != api.ResultRolledBack {
				t.Errorf("the history tells of %+v", entries[0])
			}
			t.Logf("%s; longest wait of a client %v", out.Reason, time.Duration(res.LatencyFresh.Max())*time.Microsecond)
		})
	}
}

// Where both are to live at one time the first reload that fails says what to set.
func TestALockIsRecognised(t *testing.T) {
	t.Parallel()
	s := locking(t, "unmodified")
	s.Config.Set("rollout.surge", "all")
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	baked(t, s)
	out := reload(t, s, api.ReloadRequest{Label: "v2"})
	if out.Result != api.ResultFailed || !strings.Contains(out.Reason, "set rollout.surge: replace") {
		t.Errorf("%+v does not say what to set", out)
	}
}

// A death in the bake, and a rollback, go back in the same way.
func TestBackOutOfTheBake(t *testing.T) {
	t.Parallel()
	s := locking(t, "unmodified")
	s.Config.Set("rollout.bake", "1s")
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	baked(t, s)
	first := status(t, s).Active.Version.Label
	s.Config.Set("rollout.bake", "10m")
	next(t, s, 2, "serving")
	_, _, _ = ask(s.Addr, "/die", patience)
	serves(t, s, first)
	wait(t, s, "the failure", func(st api.Status) bool {
		return st.LastFailure != nil && strings.Contains(st.LastFailure.Reason, "exit status 3")
	})
	next(t, s, 3, "serving")
	waiting(t, s, 0, func() { back(t, s, "") })
	serves(t, s, first)
	if code, body, err := ask(s.Addr, "/", patience); err != nil || code != 200 || !strings.HasPrefix(body, "v1 ") {
		t.Errorf("after the way back the answer is %d %q, %v", code, body, err)
	}
}

// The master dies when one version has ended and the next one is about to start: the next
// master brings back what served. Who had connected to the old one in the moment of the
// switch, and was not accepted yet, may be lost then.
func TestMasterDiesBetweenTheTwo(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"unmodified", "sdk"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			s := locking(t, kind)
			if err := s.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			baked(t, s)
			first := status(t, s).Active.Version.Label
			waiting(t, s, 4, func() {
				s.Config.Set("worker.env.RELEASE", "v2").Set("worker.env.STARTS", "10m").Set("health.start.timeout", "20m")
				if err := s.Write(); err != nil {
					t.Fatal(err)
				}
				if _, err := s.API.Reload(t.Context(), api.ReloadRequest{Label: "v2", Detach: true}, nil); err != nil {
					t.Fatal(err)
				}
				wait(t, s, "the next version to start", func(st api.Status) bool {
					return st.Rollout != nil && st.Rollout.Stage == "start"
				})
				s.Kill()
				if err := s.Start(t.Context()); err != nil {
					t.Fatal(err)
				}
				serves(t, s, first)
			})
			_, entries := waited(t, s)
			told := false
			for _, e := range entries {
				died := strings.Contains(e.Reason, "when a master came back; ") || strings.Contains(e.Reason, "the master died at stage start; ")
				told = told || e.What == "reload" && e.Outcome == api.ResultRolledBack && died && e.WaitedMS > 0
			}
			if !told {
				t.Errorf("the history does not tell of it: %+v", entries)
			}
		})
	}
}

// unmanaged is how long the service's program takes to end and to start, at most, without
// masterd.
func unmanaged(t *testing.T, s *service.Service) (stop, start time.Duration) {
	t.Helper()
	command := slices.Clone(s.Config["worker"].(map[string]any)["command"].([]string))
	command[1] += "-alone"
	command[2] = freePort(t)
	for range 20 {
		began := time.Now()
		cmd := exec.CommandContext(t.Context(), command[0], command[1:]...)
		cmd.Env = append(os.Environ(), "STARTS=50ms", "RELEASE=v1")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		for {
			c, err := net.Dial("tcp", command[2])
			if err == nil {
				_ = c.Close()
				break
			}
			time.Sleep(time.Millisecond)
		}
		start = max(start, time.Since(began))
		began = time.Now()
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
		stop = max(stop, time.Since(began))
	}
	return stop, start
}
