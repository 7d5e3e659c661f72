package e2e

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/test/service"
)

func TestSeveralProcesses(t *testing.T) {
	t.Parallel()
	for _, surge := range []string{"all", "one"} {
		t.Run(surge, func(t *testing.T) {
			s := started(t, func(c service.Config) {
				c.Set("worker.processes", 3).Set("rollout.surge", surge).Set("rollout.min_ready", "200ms")
			})
			underLoad(t, s, quietRate(), func() {
				for i := 2; i <= times(20, 2)+1; i++ {
					next(t, s, i, "baked")
				}
				wait(t, s, "three workers", manned(3))
				s.Config.Set("rollout.bake", "1m")
				next(t, s, 100, "serving")
				back(t, s, "")
				if st := status(t, s); st.Active.Version.Label == label(100) {
					t.Errorf("after the rollback %+v", st.Active)
				}
				wait(t, s, "three workers", manned(3))
			})
		})
	}
}

// TestReplacementIsOfThePinnedVersion: what happens to the program at its path
// after the start is nobody's business but the next reload's.
func TestReplacementIsOfThePinnedVersion(t *testing.T) {
	t.Parallel()
	s := newService(t)
	program := copied(t, s, "program")
	s.Config.Set("worker.command", []string{program}).Set("worker.processes", 2)
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	next(t, s, 2, "baked")
	spoil := map[string]func() error{
		"garbage": func() error {
			return os.WriteFile(program, []byte("\x7fELFnothing"), 0o755)
		},
		"half written": func() error {
			b, err := os.ReadFile(s.Demo)
			if err != nil {
				return err
			}
			return os.WriteFile(program, b[:len(b)/2], 0o755)
		},
		"removed": func() error { return nil },
	}
	for name, spoiled := range spoil {
		if err := os.RemoveAll(program); err != nil { // it runs: it cannot be written over
			t.Fatal(err)
		}
		if err := spoiled(); err != nil {
			t.Fatal(err)
		}
		before := status(t, s)
		victim := team(before)[0]
		stop := start(t, s, quietRate())
		wait(t, s, "connections", func(st api.Status) bool {
			i := slices.IndexFunc(team(st), func(w api.Worker) bool { return w.PID == victim.PID })
			return i >= 0 && team(st)[i].Open > 0
		})
		held := sockets(t, victim.PID)
		if err := syscall.Kill(victim.PID, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		wait(t, s, "the replacement", func(st api.Status) bool {
			return manned(2)(st) && !slices.ContainsFunc(team(st), func(w api.Worker) bool { return w.PID == victim.PID })
		})
		res := stop()
		if res.Failed() > uint64(held) {
			t.Errorf("%s: %d failed, the killed one held %d:\n%s", name, res.Failed(), held, res)
		}
		if after := status(t, s); after.Active.Generation != before.Active.Generation || after.Active.Version.ID != before.Active.Version.ID {
			t.Errorf("%s: the replacement is of %+v, before it was %+v", name, after.Active, before.Active)
		}
		if len(res.Versions) != 1 {
			t.Errorf("%s: %d versions answered:\n%s", name, len(res.Versions), res)
		}
	}
	// And a whole generation of a version whose path is gone.
	kept := status(t, s).Active.Version.Label
	s.Config.Set("worker.command", []string{copied(t, s, "program2")})
	next(t, s, 3, "baked")
	underLoad(t, s, quietRate(), func() { cli(t, s, 0, "rollback", kept) })
	serves(t, s, kept)
}

// TestOneOfSeveralDiesInTheBake: the first death takes the new version back.
func TestOneOfSeveralDiesInTheBake(t *testing.T) {
	t.Parallel()
	s := started(t, func(c service.Config) { c.Set("worker.processes", 3) })
	baked(t, s)
	s.Config.Set("rollout.bake", "1m")
	next(t, s, 2, "serving")
	stop := start(t, s, quietRate())
	var victim api.Worker
	wait(t, s, "connections", func(st api.Status) bool {
		for _, w := range team(st) {
			if st.Active.Generation == 2 && w.Open > 0 {
				victim = w
				return true
			}
		}
		return false
	})
	held := sockets(t, victim.PID)
	if err := syscall.Kill(victim.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	wait(t, s, "the generation before to serve", func(st api.Status) bool { return st.Active.Generation == 1 && manned(3)(st) })
	if res := stop(); res.Failed() > uint64(held) {
		t.Errorf("%d failed, the killed one held %d:\n%s", res.Failed(), held, res)
	}
	e := history(t, s, func(e api.Entry) bool { return e.What == "reload" })
	if e == nil || e.Outcome != api.ResultRolledBack || e.Stage != "bake" || !strings.Contains(e.Reason, "killed") {
		t.Errorf("%+v", e)
	}
}

func TestScaleUnderLoad(t *testing.T) {
	t.Parallel()
	s := started(t, nil)
	baked(t, s)
	underLoad(t, s, quietRate(), func() {
		for range times(20, 2) {
			for _, n := range []int{3, 1} {
				cli(t, s, 0, "scale", fmt.Sprint(n))
				wait(t, s, fmt.Sprintf("%d workers", n), manned(n))
			}
		}
	})
	cli(t, s, 2, "scale", "0")
	cli(t, s, 2, "scale", "100000")
	next(t, s, 2, "baked") // takes the number from the configuration again
	wait(t, s, "one worker", manned(1))
}

func TestCrashLoopGoesBackToAKeptVersion(t *testing.T) {
	t.Parallel()
	s := started(t, func(c service.Config) {
		c.Set("restart", map[string]any{"initial": "10ms", "max": "100ms", "loop": 3, "loop_window": "20s"})
	})
	next(t, s, 2, "baked")
	s.Config.Set("worker.env.DEMO_CRASH_AFTER", "700ms")
	next(t, s, 3, "baked")
	serves(t, s, label(2))
	var e *api.Entry
	eventually(t, "the loop in the history", func() bool { // written when it is baked
		e = history(t, s, func(e api.Entry) bool { return e.What == "loop" })
		return e != nil
	})
	if e.Version != label(2) || e.Outcome != api.ResultDone || !strings.Contains(e.Why, "lost 3 workers") {
		t.Errorf("%+v", e)
	}
	if e := history(t, s, func(e api.Entry) bool { return e.What == "crash" }); e == nil || e.Version != label(3) {
		t.Errorf("no crash of v3 in the history: %+v", e)
	}
	if page := cli(t, s, 0, "history"); !strings.Contains(page, "loop") || !strings.Contains(page, "exit status 3") {
		t.Errorf("history:\n%s", page)
	}
}

// gone starts a service whose only worker dies and does not come again.
func gone(t *testing.T, answer string, change func(s *service.Service)) (s *service.Service, repair func()) {
	t.Helper()
	s = newService(t)
	if change != nil {
		change(s)
	}
	env := filepath.Join(s.Dir, "env")
	mood := func(text string) {
		if err := os.WriteFile(env, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	mood("")
	s.Config.Set("worker.env_files", []string{env}).
		Set("unavailable", map[string]any{"after": "300ms", "answer": answer}).
		Set("restart", map[string]any{"initial": "50ms", "max": "200ms", "loop": 3})
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	baked(t, s)
	mood("DEMO_EXIT=3\n")
	pid, err := s.Worker(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := s.WaitState(t.Context(), patience, "down"); err != nil {
		t.Fatal(err)
	}
	return s, func() { mood("") }
}

func TestNobodyAlive503(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*service.Service){
		"kernel": nil,
		"shared": func(s *service.Service) {
			s.Config.Set("listeners", []any{map[string]any{"name": "http", "address": "tcp://" + s.Addr, "steering": "shared"}})
		},
		"unix": func(s *service.Service) {
			s.Addr = filepath.Join(s.Dir, "http.sock")
			s.Config.Set("listeners", listeners("http", "unix://"+s.Addr))
		},
		"socket activation": func(s *service.Service) { s.Config.Set("worker.kind", "socket-activation") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			nobodyAlive503(t, change)
		})
	}
}

func nobodyAlive503(t *testing.T, change func(*service.Service)) {
	s, repair := gone(t, "503", change)
	code, body, err := ask(s.Addr, "/ping", 10*time.Second) // waits in the queue until the master answers
	if err != nil || code != 503 {
		t.Errorf("%d %q, %v; want 503", code, body, err)
	}
	if page := cli(t, s, 1, "status"); !strings.Contains(page, "down") {
		t.Errorf("status:\n%s", page)
	}
	if code, body, err := ask(s.Addr, "/ping", time.Second); err != nil || code != 503 { // at once
		t.Errorf("%d %q, %v; want 503", code, body, err)
	}
	repair()
	next(t, s, 2, "baked")
	underLoad(t, s, quietRate(), func() { next(t, s, 3, "baked") })
}

func TestNobodyAliveReset(t *testing.T) {
	t.Parallel()
	s, repair := gone(t, "reset", nil)
	if code, body, err := ask(s.Addr, "/ping", 10*time.Second); err == nil || !strings.Contains(err.Error(), "reset") {
		t.Errorf("%d %q, %v; want a reset", code, body, err)
	}
	repair()
	// By itself: the replacement's turn comes. That it was a loop stays in view for a while.
	wait(t, s, "a worker that serves", func(st api.Status) bool { return st.State == "serving" || st.State == "degraded" && working(st) == 1 })
	underLoad(t, s, quietRate(), func() { next(t, s, 2, "baked") })
}

// TestNobodyAliveHold: who waits is served by the worker that comes.
func TestNobodyAliveHold(t *testing.T) {
	t.Parallel()
	s, repair := gone(t, "hold", nil)
	var waiting []net.Conn
	for range 2 { // one before unavailable.after, one after it
		c, err := net.Dial("tcp", s.Addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		fmt.Fprint(c, "GET /ping HTTP/1.1\r\nHost: x\r\n\r\n")
		_ = c.SetReadDeadline(time.Now().Add(time.Second)) // longer than unavailable.after
		if n, err := c.Read(make([]byte, 1)); err == nil {
			t.Fatalf("%d bytes of an answer while nobody is alive", n)
		}
		waiting = append(waiting, c)
	}
	repair()
	for _, c := range waiting {
		_ = c.SetReadDeadline(time.Now().Add(patience))
		res, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != 200 {
			t.Errorf("status %d for a client that was held until a worker came", res.StatusCode)
		}
	}
}

func TestFrozenWorker(t *testing.T) {
	if !*full {
		t.Skip("takes 17 s of missed beats: make e2e")
	}
	t.Parallel()
	t.Run("alone", func(t *testing.T) {
		t.Parallel()
		s := started(t, nil)
		baked(t, s)
		pid, err := s.Worker(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		freeze(t, pid)
		time.Sleep(20 * time.Second) // that is how long it must not be killed
		if now, err := s.Worker(t.Context()); err != nil || now != pid {
			t.Errorf("worker %d, %v; want %d: the last one is not killed for its silence", now, err, pid)
		}
		if err := syscall.Kill(pid, syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
		underLoad(t, s, quietRate(), func() { next(t, s, 2, "baked") })
	})
	t.Run("with a sibling", func(t *testing.T) {
		t.Parallel()
		s := started(t, func(c service.Config) { c.Set("worker.processes", 2) })
		baked(t, s)
		pid := team(status(t, s))[0].PID
		freeze(t, pid)
		if err := s.Wait(t.Context(), 30*time.Second, "the frozen one to be replaced", func(st api.Status) bool {
			return manned(2)(st) && !slices.ContainsFunc(team(st), func(w api.Worker) bool { return w.PID == pid })
		}); err != nil {
			t.Fatal(err)
		}
		underLoad(t, s, quietRate(), func() { next(t, s, 2, "baked") })
	})
}

func freeze(t *testing.T, pid int) {
	t.Helper()
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Kill(pid, syscall.SIGCONT) })
}

func TestOneOfSeveralUnhealthy(t *testing.T) {
	t.Parallel()
	s := started(t, func(c service.Config) { c.Set("worker.processes", 2) })
	underLoad(t, s, quietRate(), func() {
		s.Config.Set("worker.env.DEMO_UNHEALTHY_ONE", "odd").Set("health.start.timeout", "4s")
		out := reload(t, s, api.ReloadRequest{Label: "odd"})
		if out.Result != api.ResultFailed || out.Stage != "check" || out.Worker%2 != 1 {
			t.Errorf("%+v: want the odd worker to be blamed", out)
		}
	})
}
