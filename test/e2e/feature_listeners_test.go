package e2e

import (
	"io/fs"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/test/load"
	"github.com/masterd/masterd/test/service"
)

// listeners are a configuration's: name, address, name, address, …
func listeners(of ...string) []any {
	list := []any{}
	for i := 0; i < len(of); i += 2 {
		list = append(list, map[string]any{"name": of[i], "address": of[i+1]})
	}
	return list
}

func freePort(t *testing.T) string {
	t.Helper()
	addr, err := service.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	return addr
}

func TestUnixSocketUnderReloadsAndRollbacks(t *testing.T) {
	t.Parallel()
	group, err := user.LookupGroupId(strconv.Itoa(os.Getgid()))
	if err != nil {
		t.Skip(err)
	}
	s := newService(t)
	s.Addr = filepath.Join(s.Dir, "http.sock")
	s.Config.Set("listeners", listeners("http", "unix://"+s.Addr+"?mode=0620&group="+group.Name))
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	present := watchPath(t, s.Addr, 0o620)
	underLoad(t, s, quietRate(), func() {
		for i := 2; i <= times(20, 4)+1; i++ {
			until := "baked"
			if i%2 == 0 {
				until = "serving"
			}
			next(t, s, i, until)
			if i%4 == 0 {
				back(t, s, "")
			}
		}
	})
	present()
	if how := status(t, s).Listeners[0]; how.Steering != "unix" {
		t.Errorf("listener %+v", how)
	}
}

// watchPath looks again and again whether a socket is there with its mode; what
// it returns ends it.
func watchPath(t *testing.T, path string, mode fs.FileMode) func() {
	var end atomic.Bool
	var missing, wrong atomic.Int64
	var wait sync.WaitGroup
	wait.Go(func() {
		for !end.Load() {
			switch info, err := os.Lstat(path); {
			case err != nil:
				missing.Add(1)
			case info.Mode().Perm() != mode:
				wrong.Add(1)
			}
			time.Sleep(time.Duration(times(50, 500)) * time.Microsecond) // two cores only
		}
	})
	stop := sync.OnceFunc(func() { end.Store(true); wait.Wait() })
	t.Cleanup(stop)
	return func() {
		stop()
		if missing.Load()+wrong.Load() > 0 {
			t.Errorf("%s was missing %d times and had another mode than %v %d times", path, missing.Load(), mode, wrong.Load())
		}
	}
}

func TestUnixSocketSparesWhatIsNotASocket(t *testing.T) {
	t.Parallel()
	for name, lay := range map[string]func(path string) error{
		"a file":      func(path string) error { return os.WriteFile(path, []byte("precious"), 0o600) },
		"a symlink":   func(path string) error { return os.Symlink("/etc/hostname", path) },
		"a directory": func(path string) error { return os.Mkdir(path, 0o700) },
	} {
		s := newService(t)
		path := filepath.Join(s.Dir, "http.sock")
		if err := lay(path); err != nil {
			t.Fatal(err)
		}
		before, _ := os.Lstat(path)
		s.Config.Set("listeners", listeners("http", "unix://"+path))
		if err := s.Launch(); err != nil {
			t.Fatal(err)
		}
		if code := s.ExitCode(); code != 2 || !strings.Contains(s.Log(5), path) {
			t.Errorf("%s at the path: exit code %d, want 2 and a word about it:\n%s", name, code, s.Log(5))
		}
		if after, err := os.Lstat(path); err != nil || !os.SameFile(before, after) {
			t.Errorf("%s at the path was touched: %v", name, err)
		}
	}
}

func TestSharedSteering(t *testing.T) {
	t.Parallel()
	s := newService(t)
	s.Config.Set("listeners", []any{map[string]any{"name": "http", "address": "tcp://" + s.Addr, "steering": "shared"}}).
		Set("worker.processes", 2)
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	underLoad(t, s, quietRate(), func() {
		for i := 2; i <= times(20, 3)+1; i++ {
			next(t, s, i, "baked")
		}
		s.Config.Set("rollout.bake", "1m")
		next(t, s, 100, "serving")
		eventually(t, "it to answer", func() bool {
			_, body, err := ask(s.Addr, "/version", time.Second)
			return err == nil && strings.Contains(body, label(100))
		})
		back(t, s, "")
	})
	if l := status(t, s).Listeners[0]; l.Steering != "shared" || l.Reason == "" {
		t.Errorf("listener %+v: shared, and why?", l)
	}
	if page := cli(t, s, 0, "status"); !strings.Contains(page, "shared") {
		t.Errorf("the page does not say shared:\n%s", page)
	}
}

func TestIPv6AndDualStack(t *testing.T) {
	t.Parallel()
	if l, err := net.Listen("tcp6", "[::1]:0"); err != nil {
		t.Skip("no IPv6 here")
	} else {
		l.Close()
	}
	_, six, _ := net.SplitHostPort(freePort(t))
	_, dual, _ := net.SplitHostPort(freePort(t))
	s := newService(t)
	s.Config.Set("listeners", listeners("http", "tcp6://[::1]:"+six, "dual", "tcp://[::]:"+dual)).
		Set("worker.env.DEMO_LISTENERS", "http,dual")
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	plan := load.Plan{Rate: quietRate(), Kept: 4, Fresh: 4, Path: "/upload", Body: 64}
	at := func(addr string) load.Plan { p := plan; p.Addr = addr; return p }
	unfailing(t, at("[::1]:"+six), func() {
		unfailing(t, at("[::1]:"+dual), func() {
			unfailing(t, at("127.0.0.1:"+dual), func() {
				for i := 2; i <= times(20, 2)+1; i++ {
					next(t, s, i, "baked")
				}
				s.Config.Set("rollout.bake", "1m")
				next(t, s, 100, "serving")
				back(t, s, "")
			})
		})
	})
	if _, _, err := ask("127.0.0.1:"+six, "/ping", time.Second); err == nil {
		t.Error("tcp6 answers on IPv4")
	}
}

func TestWithoutListeners(t *testing.T) {
	t.Parallel()
	s := newService(t)
	jobs := filepath.Join(s.Dir, "jobs")
	s.Config.Set("listeners", []any{}).
		Set("worker.command", []string{s.Demo, "-listeners="}).
		Set("worker.env.DEMO_JOB_FILE", jobs).
		Set("health", map[string]any{"command": []string{"/bin/sh", "-c", "kill -0 $MASTERD_WORKER_PID"}})
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	next(t, s, 2, "baked")
	s.Config.Set("health.command", []string{"/bin/sh", "-c", "echo no such luck >&2; exit 1"}).Set("health.start.timeout", "3s")
	if out := reload(t, s, api.ReloadRequest{}); out.Result != api.ResultFailed || out.Stage != "check" || !strings.Contains(out.Reason, "no such luck") {
		t.Errorf("a failing command check: %+v", out)
	}
	if got := active(t, s); got != 2 {
		t.Errorf("generation %d is active", got)
	}
	onlyOneWorks(t, jobs, 2)
}

func TestListenersChangeOnReload(t *testing.T) {
	t.Parallel()
	s := started(t, nil)
	first, second := s.Addr, freePort(t)
	reach := func(addr string) bool {
		code, _, err := ask(addr, "/ping", 2*time.Second)
		return err == nil && code == 200
	}
	underLoad(t, s, quietRate(), func() {
		// Added.
		s.Config.Set("listeners", listeners("http", "tcp://"+first, "admin", "tcp://"+second)).Set("worker.env.DEMO_LISTENERS", "http,admin")
		next(t, s, 2, "baked")
		if !reach(second) {
			t.Error("the added listener is not served")
		}
		// Removed.
		s.Config.Set("listeners", listeners("http", "tcp://"+first)).Set("worker.env.DEMO_LISTENERS", "http")
		next(t, s, 3, "baked")
		eventually(t, "the removed listener to leave", func() bool { return !reach(second) })
		if n := len(status(t, s).Listeners); n != 1 {
			t.Errorf("%d listeners in the status", n)
		}
	})
	// Changed, and back.
	s.Config.Set("listeners", listeners("http", "tcp://"+second)).Set("rollout.bake", "1m")
	next(t, s, 4, "serving")
	if !reach(second) {
		t.Error("the changed address is not served")
	}
	back(t, s, "")
	underLoad(t, s, quietRate(), func() { time.Sleep(200 * time.Millisecond) })
	eventually(t, "the address that was rolled back to leave", func() bool { return !reach(second) })
	s.Config.Set("rollout.bake", "200ms")
	next(t, s, 5, "baked")
	eventually(t, "the old address to leave", func() bool { return !reach(first) })
	if !reach(second) {
		t.Error("the changed address is not served")
	}
	// Taken.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if out := cli(t, s, 0, "check"); !strings.Contains(out, "is good") {
		t.Errorf("the check of what runs: %s", out)
	}
	s.Config.Set("listeners", listeners("http", "tcp://"+l.Addr().String()))
	if err := s.Write(); err != nil {
		t.Fatal(err)
	}
	if out := cli(t, s, 2, "check"); !strings.Contains(out, "in use") || !strings.Contains(out, strconv.Itoa(os.Getpid())) {
		t.Errorf("the check of a taken port says %s", out)
	}
	out := reload(t, s, api.ReloadRequest{})
	if out.Result != api.ResultFailed || !strings.Contains(out.Reason, "in use") || !strings.Contains(out.Reason, strconv.Itoa(os.Getpid())) {
		t.Errorf("a taken port: %+v, want it to name %d", out, os.Getpid())
	}
	if !reach(second) {
		t.Error("what ran does not run any more")
	}
}

// A listener is its address: one that gets another name, or two that change theirs with
// each other, keep their sockets and their clients, also over the deaths of the master
// and of its keeper.
func TestListenersAreRenamed(t *testing.T) {
	t.Parallel()
	s := newService(t)
	first, second := s.Addr, freePort(t)
	call := func(one, other string) {
		s.Config.Set("listeners", listeners(one, "tcp://"+first, other, "tcp://"+second)).
			Set("worker.env.DEMO_LISTENERS", one+","+other).Set("health.http.listener", one)
	}
	call("http", "admin")
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	baked(t, s)
	end := mixed(t, s)
	both := func() {
		t.Helper()
		for _, addr := range []string{first, second} {
			if code, _, err := ask(addr, "/ping", patience); err != nil || code != 200 {
				t.Errorf("%s: %d, %v", addr, code, err)
			}
		}
		if n := len(status(t, s).Listeners); n != 2 {
			t.Errorf("%d listeners", n)
		}
	}
	n := 2
	for _, names := range [][2]string{{"web", "admin"}, {"admin", "web"}, {"web", "admin"}, {"http", "other"}} {
		call(names[0], names[1])
		s.Config.Set("rollout.bake", "1m")
		next(t, s, n, "serving")
		both()
		back(t, s, "")
		both()
		next(t, s, n+1, "serving")
		st := status(t, s)
		if n%4 == 0 {
			s.KillBoth(st.Master.Keeper)
		} else {
			s.Kill()
		}
		if err := s.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		both()
		s.Config.Set("rollout.bake", "200ms")
		next(t, s, n+2, "baked")
		alone(t, s)
		both()
		n += 3
	}
	if res := end(); res.Failed() > 0 {
		t.Errorf("%d requests failed:\n%s", res.Failed(), res)
	}
}

func TestSocketActivation(t *testing.T) {
	t.Parallel()
	s := newService(t)
	s.Config.Set("worker.kind", "socket-activation").Set("worker.processes", 2)
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	underLoad(t, s, quietRate(), func() {
		for i := 2; i <= times(20, 2)+1; i++ {
			next(t, s, i, "baked")
		}
		s.Config.Set("rollout.bake", "1m")
		next(t, s, 100, "serving")
		back(t, s, "")
	})
	// Each through its own slot: one bad sibling is seen.
	s.Config.Set("worker.env.DEMO_UNHEALTHY_ONE", filepath.Join(s.Dir, "claim")).Set("health.start.timeout", "3s").Set("rollout.bake", "200ms")
	underLoad(t, s, quietRate(), func() {
		out := reload(t, s, api.ReloadRequest{Label: "bad"})
		if out.Result != api.ResultFailed || out.Stage != "check" || !strings.Contains(out.Reason, "500") {
			t.Errorf("one of two is unhealthy: %+v", out)
		}
	})
}

// TestKindAndNumberChangeOnReload: what a generation is like is its own affair.
func TestKindAndNumberChangeOnReload(t *testing.T) {
	t.Parallel()
	s := started(t, nil)
	baked(t, s)
	underLoad(t, s, quietRate(), func() {
		for i, c := range []struct {
			kind string
			n    int
		}{{"socket-activation", 3}, {"sdk", 2}, {"socket-activation", 1}, {"sdk", 1}} {
			s.Config.Set("worker.kind", c.kind).Set("worker.processes", c.n)
			next(t, s, i+2, "baked")
			wait(t, s, "all workers", manned(c.n))
		}
		s.Config.Set("worker.kind", "socket-activation").Set("rollout.bake", "1m")
		next(t, s, 100, "serving")
		back(t, s, "")
		next(t, s, 101, "serving")
	})
}

// aServer is what people write in an afternoon: it takes descriptor 3 and
// knows nothing of masters.
const aServer = `import http.server, socketserver, os, socket, sys
assert os.environ["LISTEN_PID"] == str(os.getpid()) and os.environ["LISTEN_FDS"] == "1"
class H(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = os.environ.get("RELEASE", "v1").encode()
        self.send_response(200); self.send_header("Content-Length", str(len(body))); self.end_headers(); self.wfile.write(body)
class S(socketserver.ThreadingTCPServer):
    daemon_threads = True
s = S(("", 0), H, bind_and_activate=False)
s.socket = socket.socket(fileno=3)
s.serve_forever()
`

func TestSocketActivationOfPython(t *testing.T) {
	t.Parallel()
	const python = "/usr/bin/python3"
	if _, err := os.Stat(python); err != nil {
		t.Skip(err)
	}
	s := newService(t)
	s.Config.Set("worker.kind", "socket-activation").Set("worker.command", []string{python, "-c", aServer})
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	says := func(want string) {
		t.Helper()
		eventually(t, want+" to answer", func() bool {
			code, body, err := ask(s.Addr, "/", 2*time.Second)
			return err == nil && code == 200 && body == want
		})
	}
	says("v1")
	baked(t, s)
	s.Config.Set("rollout.bake", "1m")
	next(t, s, 2, "serving")
	says("v2")
	back(t, s, "")
	says("v1")
}

// A kept version that came before a listener does not know it: it is run with
// those it had, and the listener leaves with the version that brought it.
func TestRollbackToAVersionWithFewerListeners(t *testing.T) {
	t.Parallel()
	s := started(t, nil)
	baked(t, s)
	second := freePort(t)
	underLoad(t, s, quietRate(), func() {
		s.Config.Set("listeners", listeners("http", "tcp://"+s.Addr, "admin", "tcp://"+second)).Set("worker.env.DEMO_LISTENERS", "http,admin")
		next(t, s, 2, "baked")
		out, err := s.API.Rollback(t.Context(), api.RollbackRequest{}, nil)
		if err != nil || out.Result != api.ResultDone {
			t.Fatalf("%+v, %v", out, err)
		}
		if code, _, err := ask(s.Addr, "/ping", 2*time.Second); err != nil || code != 200 {
			t.Errorf("after the rollback: %d, %v", code, err)
		}
		if err := s.Wait(t.Context(), 10*time.Second, "the listener to leave", func(st api.Status) bool { return len(st.Listeners) == 1 }); err != nil {
			t.Error(err)
		}
	})
}
