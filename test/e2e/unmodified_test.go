package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/test/load"
	"github.com/masterd/masterd/test/service"
)

// Programs that were never prepared, and those that only take a socket.

// port is the ":PORT" of an address.
func port(addr string) string { return addr[strings.LastIndexByte(addr, ':'):] }

// unprepared is a service of a program that binds by itself.
func unprepared(t *testing.T, command ...string) *service.Service {
	t.Helper()
	s := newService(t)
	s.Config.Set("worker.kind", "unmodified").Set("worker.command", command).Set("health.http", map[string]any{"path": "/"}).
		Set("health.start.timeout", "5s").Set("drain.timeout", "2s").Set("worker.env.RELEASE", "v1")
	return s
}

// freshly runs story under a strict client that makes a connection for each request.
func freshly(t *testing.T, s *service.Service, story func()) *load.Result {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	l := load.Start(ctx, load.Plan{Addr: s.Addr, Rate: quietRate(), Fresh: 16, Path: "/upload", Body: 512})
	end := sync.OnceValue(func() *load.Result { cancel(); return l.Wait() })
	t.Cleanup(func() { end() })
	story()
	res := end()
	if n := res.Failed(); n > 0 || res.Requests == 0 {
		t.Errorf("%d of %d requests failed:\n%s", n, res.Requests, res)
	}
	return res
}

// Programs that bind ":PORT" while the listener is 127.0.0.1:PORT, reloaded and
// rolled back.
func TestUnmodified(t *testing.T) {
	besideOthers(t)
	for name, program := range map[string]string{"net/http": programs.Plain, "gin": programs.Gin} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := unprepared(t, program)
			s.Config.Set("worker.command", []string{program, port(s.Addr)})
			if err := s.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			baked(t, s)
			res := freshly(t, s, func() {
				for i := 2; i <= times(30, 2)+1; i++ {
					next(t, s, i, "baked")
				}
				s.Config.Set("rollout.bake", "1m")
				next(t, s, 100, "serving")
				// Asked here and not left to the load's clients: on a busy machine none
				// of them may come between this and the way back.
				if code, body, err := ask(s.Addr, "/", patience); err != nil || code != 200 || !strings.HasPrefix(body, label(100)+" ") {
					t.Errorf("once %s serves, the answer is %d %q, %v", label(100), code, body, err)
				}
				back(t, s, "")
				if code, body, err := ask(s.Addr, "/", patience); err != nil || code != 200 || strings.HasPrefix(body, label(100)+" ") {
					t.Errorf("after the way back the answer is %d %q, %v", code, body, err)
				}
			})
			t.Logf("%s", res)
		})
	}
}

// The ways in which a candidate is no good, each refused with that very reason, and
// no client has ever seen one of them.
func TestCandidatesOfOtherKinds(t *testing.T) {
	besideOthers(t)
	for _, c := range []struct {
		way, unmodified, activated string // what the reason says
		stage                      string
	}{
		{"never-binds", "it has not bound tcp://ADDR (listener http)", "did not pass its health checks", "start"},
		{"wrong-port", "it listens on SIDE instead", "", "start"},
		{"exits", "the configuration is missing", "the configuration is missing", "start"},
		{"crashes", "it cannot read its database", "it cannot read its database", "start"},
	} {
		for _, kind := range []string{"unmodified", "socket-activation"} {
			t.Run(c.way+"/"+kind, func(t *testing.T) {
				t.Parallel()
				want := c.unmodified
				if kind == "socket-activation" {
					want = c.activated
				}
				if want == "" {
					t.Skip("it has its socket")
				}
				s := unprepared(t)
				side := freePort(t)
				s.Config.Set("worker.kind", kind).Set("worker.command", []string{programs.Hostile, "serves", s.Addr}).Set("health.start.timeout", "3s")
				if err := s.Start(t.Context()); err != nil {
					t.Fatal(err)
				}
				baked(t, s)
				res := freshly(t, s, func() {
					s.Config.Set("worker.command", []string{programs.Hostile, c.way, s.Addr, side}).Set("worker.env.RELEASE", "bad")
					out := reload(t, s, api.ReloadRequest{Label: "bad"})
					want = strings.NewReplacer("ADDR", s.Addr, "SIDE", side).Replace(want)
					if text := out.Reason + strings.Join(lines(out), "\n"); out.Result != api.ResultFailed || !strings.Contains(text, want) {
						t.Errorf("%+v does not say %q", out, want)
					}
					if st := status(t, s); st.State != "serving" || st.Active.Version.Label == "bad" {
						t.Errorf("%+v", st)
					}
				})
				if seen := res.Versions["bad"]; seen.Count > 0 {
					t.Errorf("%d clients have seen it", seen.Count)
				}
			})
		}
	}
}

// lines are the last ones of what failed, as an outcome has them.
func lines(out api.Outcome) []string {
	text, _ := json.Marshal(out)
	return []string{string(text)}
}

// What a hostile worker does to its socket, or to us, costs the next version nothing.
func TestHostileWorkers(t *testing.T) {
	besideOthers(t)
	ways := []string{"floods", "shuts-down", "closes", "backlog", "blocks", "forks", "forks-and-exits", "binds", "main", "daemons"}
	for _, kind := range []string{"unmodified", "socket-activation", "unix"} {
		for i, way := range ways {
			if kind != "unmodified" && i >= times(len(ways), 3) {
				continue // what they do is not about how they came to their socket
			}
			t.Run(way+"/"+kind, func(t *testing.T) {
				t.Parallel()
				hostile(t, kind, way)
			})
		}
	}
	t.Run("unlinks/unix", func(t *testing.T) { t.Parallel(); hostile(t, "unix", "unlinks") })
}

func hostile(t *testing.T, kind, way string) {
	s := unprepared(t)
	s.Config.Set("worker.command", []string{programs.Hostile, "serves", s.Addr})
	if kind != "unmodified" {
		s.Config.Set("worker.kind", "socket-activation")
	}
	if kind == "unix" {
		s.Addr = s.Dir + "/s"
		s.Config.Set("listeners", listeners("http", "unix://"+s.Addr))
	}
	// Long enough for a slow machine: at the end of a drain clients are cut, as they should be.
	s.Config.Set("rollout.bake", "0s").Set("drain.timeout", "20s").Set("drain.kill_after", "200ms").Set("health.start.timeout", "30s").Set("worker.notify_access", "group")
	s.Config.Set("worker.command", []string{programs.Hostile, way, s.Addr})
	begun := func(st api.Status) bool { return st.State == "serving" }
	if way == "forks-and-exits" { // it serves for a moment at a time
		begun = func(st api.Status) bool { return len(team(st)) == 1 && team(st)[0].Restarts > 0 }
	}
	if err := s.Launch(); err != nil {
		t.Fatal(err)
	}
	wait(t, s, "it to begin", begun)
	eventually(t, "it to do what it does", func() bool { return turned(t, s, way) })
	s.Config.Set("worker.command", []string{programs.Hostile, "serves", s.Addr})
	next(t, s, 2, "serving")
	freshly(t, s, func() {
		next(t, s, 3, "baked")
		next(t, s, 4, "baked")
	})
	eventually(t, "nobody to be there but the keeper and a worker", func() bool { return len(s.Processes()) == 2 })
	log := s.Log(10_000)
	fault := map[string]string{"floods": "sd_notify", "shuts-down": "shut"}[way]
	if !strings.Contains(log, fault) {
		t.Errorf("the log does not say %q", fault)
	}
}

// turned tells whether a hostile worker has done what its way has it do.
func turned(t *testing.T, s *service.Service, way string) bool {
	t.Helper()
	says := map[string]string{"forks": "serves as serves", "main": "serves as ready"}[way] // the child says so
	if says == "" {
		says = "has turned"
	}
	switch w := team(status(t, s)); {
	case way == "floods": // what it says otherwise is lost in it
		return strings.Contains(s.Log(10_000), "sd_notify is refused")
	case len(w) != 1:
		return false
	case way == "forks-and-exits":
		return w[0].Restarts > 0
	default:
		return w[0].Says == says
	}
}

// What a worker says by sd_notify is shown; its watchdog is watched; what it has
// stored the next version gets.
func TestNotifications(t *testing.T) {
	t.Parallel()
	s := unprepared(t)
	s.Config.Set("worker.ready", "notify").Set("worker.command", []string{programs.Hostile, "serves", s.Addr})
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if w := team(status(t, s)); len(w) != 1 || w[0].Says != "serves as serves" || !w[0].Uncounted {
		t.Errorf("%+v", w)
	}
	if out := cli(t, s, 0, "status"); !strings.Contains(out, "says: serves as serves") {
		t.Error(out)
	}
	baked(t, s)

	// One that never says READY=1 is refused with that reason.
	s.Config.Set("worker.command", []string{programs.Plain, s.Addr}).Set("health.start.timeout", "3s")
	if out := reload(t, s, api.ReloadRequest{}); out.Result != api.ResultFailed || !strings.Contains(out.Reason, "has not said READY=1") {
		t.Errorf("%+v", out)
	}

	// One that stops feeding its watchdog is replaced.
	s.Config.Set("worker.command", []string{programs.Hostile, "feeds", s.Addr}).Set("worker.watchdog", "500ms").Set("health.start.timeout", "3s")
	s.Config.Set("rollout.bake", "0s")
	next(t, s, 3, "serving")
	wait(t, s, "its replacement", func(st api.Status) bool { return len(team(st)) == 1 && team(st)[0].Restarts > 0 })
	logged(t, s, "it did not feed its watchdog within 500ms")

	// One that triggers it is ended in the same way.
	s.Config.Set("worker.command", []string{programs.Hostile, "triggers", s.Addr}).Set("worker.watchdog", "0s")
	next(t, s, 33, "serving")
	wait(t, s, "its replacement", func(st api.Status) bool { return len(team(st)) == 1 && team(st)[0].Restarts > 0 })
	logged(t, s, "asked for its stacks", "its watchdog was triggered by itself")
	// Nobody else was alive: its replacement has the traffic, not only its checks.
	eventually(t, "an answer of the replacement", func() bool {
		if w := team(status(t, s)); len(w) != 1 || w[0].Restarts == 0 {
			return false
		}
		_, _, err := ask(s.Addr, "/environ", time.Second)
		return err == nil
	})

	// And one that stores a descriptor.
	s.Config.Set("worker.command", []string{programs.Hostile, "stores", s.Addr}).Set("worker.watchdog", "0s").Set("worker.fd_store", 4)
	next(t, s, 4, "baked")
	next(t, s, 5, "baked")
	if _, body, err := ask(s.Addr, "/environ", 2*time.Second); err != nil || !strings.Contains(body, "LISTEN_FDNAMES=legacy\n") || !strings.Contains(body, "FDSTORE=4") {
		t.Errorf("%v\n%s", err, body)
	}
	s.Kill() // the next master has it, too
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	next(t, s, 6, "serving")
	if _, body, err := ask(s.Addr, "/environ", 2*time.Second); err != nil || !strings.Contains(body, "LISTEN_FDNAMES=legacy:legacy\n") {
		t.Errorf("%v\n%s", err, body)
	}
}

// A worker that forks: status counts all of its processes.
func TestProcessesOfAWorker(t *testing.T) {
	t.Parallel()
	s := unprepared(t)
	s.Config.Set("worker.command", []string{programs.Hostile, "forks", s.Addr})
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	w := team(status(t, s))
	if len(w) != 1 || w[0].Processes != 2 || w[0].RSS == 0 || w[0].FDs < 8 {
		t.Errorf("%+v", w)
	}
	if out := cli(t, s, 0, "status"); !strings.Contains(out, "2 processes") {
		t.Error(out)
	}
}

// A program that asks whether its socket listens, before it has it listen, is told
// what would be so without masterd, and is ready when it listens.
func TestProgramsThatAskFirst(t *testing.T) {
	t.Parallel()
	s := unprepared(t)
	s.Config.Set("worker.command", []string{programs.Hostile, "asks-first", s.Addr}).Set("health", "none").Set("rollout.bake", "0s")
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	freshly(t, s, func() {
		begun := time.Now()
		next(t, s, 2, "serving")
		if took := time.Since(begun); took < 250*time.Millisecond {
			t.Errorf("it was ready after %v, before it listened", took)
		}
		next(t, s, 3, "baked")
	})
}

// A socket-activated program may wait in accept, as under systemd: it must not get
// sockets that say "try again", from no master.
func TestSocketsAreBlocking(t *testing.T) {
	t.Parallel()
	s := unprepared(t)
	s.Config.Set("worker.kind", "socket-activation").Set("worker.command", []string{programs.Hostile, "waits", s.Addr}).Set("rollout.bake", "0s")
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	freshly(t, s, func() {
		next(t, s, 2, "serving")
		next(t, s, 3, "baked")
		s.Kill() // the next master leaves it as it is
		if err := s.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		next(t, s, 4, "serving")
	})
	if w := team(status(t, s)); len(w) != 1 || w[0].Restarts != 0 {
		t.Errorf("%+v", w)
	}
	s.Config.Set("worker.non_blocking", true).Set("health.start.timeout", "4s")
	if out := reload(t, s, api.ReloadRequest{Label: "v5"}); out.Result != api.ResultFailed || !strings.Contains(out.Reason+strings.Join(lines(out), ""), "resource temporarily unavailable") {
		t.Errorf("%+v", out)
	}
}

// A check by a connection is about the worker: the socket that it comes to is the
// master's, and the kernel takes connections there whoever the worker is.
func TestTCPCheckNeedsTheWorker(t *testing.T) {
	besideOthers(t)
	for _, kind := range []string{"sdk", "socket-activation", "unmodified"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			s := newService(t)
			delete(s.Config["health"].(map[string]any), "http")
			s.Config.Set("health.tcp", map[string]any{}).Set("health.start.timeout", "5s").Set("health.active.timeout", "1s")
			if kind != "sdk" {
				s.Config.Set("worker.kind", kind).Set("worker.command", []string{programs.Hostile, "serves", s.Addr})
			}
			if err := s.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			next(t, s, 2, "baked")
			if kind == "sdk" {
				return // one that does not answer is not ready
			}
			s.Config.Set("worker.command", []string{programs.Hostile, "binds-only", s.Addr})
			out := reload(t, s, api.ReloadRequest{Label: "v3"})
			if out.Result != api.ResultFailed || !strings.Contains(out.Reason, "the worker has not accepted the connection") {
				t.Errorf("%+v", out)
			}
			if code, body, err := ask(s.Addr, "/", patience); err != nil || code != 200 || !strings.HasPrefix(body, "v2 ") {
				t.Errorf("%d %q, %v", code, body, err)
			}
		})
	}
}

// As an ordinary user of root's.
func TestOtherKindsAsAnotherUser(t *testing.T) {
	besideOthers(t)
	if os.Getuid() != 0 {
		t.Skip("needs root; as an ordinary user all of these tests are such tests")
	}
	for _, kind := range []string{"unmodified", "socket-activation"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			s := unprepared(t)
			s.Config.Set("worker.kind", kind).Set("worker.user", "nobody").Set("worker.ready", "notify").
				Set("worker.command", []string{programs.Hostile, "serves", s.Addr})
			if err := s.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			pid, err := s.Worker(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			info, err := os.Stat(fmt.Sprintf("/proc/%d", pid))
			if err != nil {
				t.Fatal(err)
			}
			if uid := info.Sys().(*syscall.Stat_t).Uid; uid == 0 {
				t.Error("the worker runs as root")
			}
			baked(t, s)
			freshly(t, s, func() { next(t, s, 2, "baked") })
		})
	}
}

// A request that is being answered is not cut by a drain, whatever the program: it
// is waited for, and an idle connection is not. So it is if a child of the program's
// answers, in a session of its own.
func TestWorkersAreSeenOff(t *testing.T) {
	besideOthers(t)
	for _, apart := range []bool{false, true} {
		t.Run(fmt.Sprintf("apart=%v", apart), func(t *testing.T) {
			t.Parallel()
			seenOff(t, apart)
		})
	}
}

func seenOff(t *testing.T, apart bool) {
	s := newService(t)
	s.Config.Set("worker.kind", "socket-activation").Set("rollout.bake", "0s").Set("drain.timeout", "1m")
	if apart { // the shell ends of the signal that the child does not get
		s.Config.Set("worker.command", []string{"/bin/sh", "-c", `setsid -f sh -c 'export LISTEN_PID=$$ && exec "$0"' "$0"; exec sleep infinity`, s.Demo})
	}
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	old, err := s.Worker(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if apart {
		st := status(t, s)
		if st.Master.Cgroup == "" {
			t.Skip("there is no cgroup here: ", st.Master.NoCgroup)
		}
		procs, err := os.ReadFile(filepath.Join(st.Master.Cgroup, fmt.Sprint("worker-", team(st)[0].ID), "cgroup.procs"))
		all := strings.Fields(string(procs))
		if err != nil || len(all) != 2 {
			t.Fatalf("processes %q, %v", all, err)
		}
		leader := old
		for _, p := range all {
			if pid, _ := strconv.Atoi(p); pid != leader {
				old = pid
			}
		}
		if group, err := syscall.Getpgid(old); err != nil || group == leader {
			t.Fatalf("process %d is of group %d (%v)", old, group, err)
		}
	}
	idle, err := net.Dial("tcp", s.Addr)
	if err != nil {
		t.Fatal(err)
	}
	defer idle.Close()
	slow := make(chan error, 1)
	go func() {
		code, body, err := ask(s.Addr, "/slow?d=3s", 20*time.Second)
		if err == nil && code != 200 {
			err = fmt.Errorf("%d %s", code, body)
		}
		slow <- err
	}()
	eventually(t, "the request to be there", func() bool { return sockets(t, old) >= 3 })
	next(t, s, 2, "serving")
	select {
	case err := <-slow:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(patience):
		t.Error("no answer")
	}
	eventually(t, "the old one to end", func() bool { return syscall.Kill(old, 0) != nil })
}

// What must be well before a rollout is asked for, and the rollout refused with what
// is not.
func TestRequire(t *testing.T) {
	t.Parallel()
	s := started(t, nil)
	baked(t, s)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.Config.Set("rollout.require", map[string]any{"tcp": []string{l.Addr().String()}, "commands": [][]string{{"/bin/true"}}, "timeout": "300ms"})
	next(t, s, 2, "baked")
	_ = l.Close()
	s.Config.Set("worker.env.RELEASE", "v3")
	out := reload(t, s, api.ReloadRequest{Label: "v3"})
	if out.Result != api.ResultFailed || out.Stage != "prepare" || !strings.Contains(out.Reason, "connecting to "+l.Addr().String()) || !strings.Contains(out.Reason, "nothing was started") {
		t.Errorf("%+v", out)
	}
	s.Config.Set("rollout.require", map[string]any{"http": []string{"http://" + s.Addr + "/nothing"}, "timeout": "300ms"})
	if out := reload(t, s, api.ReloadRequest{Label: "v3"}); out.Result != api.ResultFailed || !strings.Contains(out.Reason, "404 Not Found") {
		t.Errorf("%+v", out)
	}
	s.Config.Set("rollout.require", map[string]any{"commands": [][]string{{"/bin/sh", "-c", "echo the queue is too long; exit 1"}}, "timeout": "300ms"})
	if out := reload(t, s, api.ReloadRequest{Label: "v3"}); out.Result != api.ResultFailed || !strings.Contains(out.Reason, "the queue is too long") {
		t.Errorf("%+v", out)
	}
	if st := status(t, s); st.State != "serving" {
		t.Errorf("%+v", st)
	}
}

// A consumer of a kind that cannot be asked: one at a time, with no bake.
func TestConsumerOfAnotherKind(t *testing.T) {
	t.Parallel()
	s := newService(t)
	delete(s.Config, "listeners")
	delete(s.Config, "rollout")
	delete(s.Config, "health")
	s.Config.Set("worker.kind", "unmodified").Set("worker.command", []string{programs.Hostile, "never-binds", ""})
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	old, err := s.Worker(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	next(t, s, 2, "baked")
	eventually(t, "the old one to end", func() bool { return syscall.Kill(old, 0) != nil })
	if w := team(status(t, s)); len(w) != 1 {
		t.Errorf("%+v", w)
	}
}

// Where another program answers a process tree's calls already, as a container
// runtime may, kind unmodified cannot be: check says so. Here that other program is
// a masterd, around this one.
func TestCallsThatAreAnsweredAlready(t *testing.T) {
	t.Parallel()
	inner := unprepared(t, programs.Plain, ":1")
	if err := inner.Write(); err != nil {
		t.Fatal(err)
	}
	s := unprepared(t, programs.Masterd, "--config", inner.File, "check")
	if err := s.Launch(); err != nil {
		t.Fatal(err)
	}
	wait(t, s, "it to fail", func(st api.Status) bool { return st.LastFailure != nil })
	logged(t, s, "unmodified is not possible: its calls cannot be answered: another program does that")
}
