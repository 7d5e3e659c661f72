package e2e

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/test/service"
)

// badReload is a change that a reload must refuse with a clear sentence.
type badReload struct {
	name   string
	raw    string         // the whole file, instead
	set    map[string]any // keys of a good file, instead
	file   func(t *testing.T, s *service.Service) map[string]any
	says   string
	asRoot bool // root only
}

var badReloads = []badReload{
	{name: "broken YAML", raw: "service: demo\n  listeners: [", says: "masterd.yaml:2"},
	{name: "unknown key", set: map[string]any{"rollout.backe": "5m"}, says: "rollout.bake"},
	{name: "unit is missing", set: map[string]any{"rollout.bake": 300}, says: "300s"},
	{name: "wrong unit", set: map[string]any{"rollout.memory.reserve": "12 parsecs"}, says: "12 parsecs"},
	{name: "empty file", raw: "", says: "empty"},
	{name: "missing program", set: map[string]any{"worker.command": []string{"/nonexistent/program"}}, says: "/nonexistent/program"},
	{name: "a directory as the program", set: map[string]any{"worker.command": []string{"/usr"}}, says: "directory"},
	{name: "missing environment file", set: map[string]any{"worker.env_files": []string{"/nonexistent/env"}}, says: "/nonexistent/env"},
	{name: "a program that is not executable", says: "not executable", file: func(t *testing.T, s *service.Service) map[string]any {
		return map[string]any{"worker.command": []string{write(t, s, "plain", "hello", 0o644)}}
	}},
	{name: "a program that is no program", says: "neither a program nor a script", file: func(t *testing.T, s *service.Service) map[string]any {
		return map[string]any{"worker.command": []string{write(t, s, "noise", "\x00\x01\x02 neither ELF nor script", 0o755)}}
	}},
	{name: "a script without its interpreter", says: "/nonexistent/sh", file: func(t *testing.T, s *service.Service) map[string]any {
		return map[string]any{"worker.command": []string{write(t, s, "script", "#!/nonexistent/sh\n", 0o755)}}
	}},
	{name: "a failing before hook", set: map[string]any{"rollout.hooks.before": [][]string{{"/bin/sh", "-c", "echo the tests have not passed >&2; exit 1"}}}, says: "the tests have not passed"},
	{name: "an address that is not there", set: map[string]any{"listeners": []any{
		map[string]any{"name": "http", "address": "tcp://192.0.2.1:80"},
	}}, says: "192.0.2.1"},
	{name: "a user that is not there", set: map[string]any{"worker.user": "nosuchuser"}, says: "nosuchuser"},
	{name: "a user who cannot reach the program", asRoot: true, says: "nobody", file: func(t *testing.T, s *service.Service) map[string]any {
		dir := filepath.Join(s.Dir, "closed")
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(s.Demo)
		if err != nil {
			t.Fatal(err)
		}
		// Run by its path, not from a copy: it is the way there that is closed.
		return map[string]any{"worker.user": "nobody", "worker.pin": "path", "worker.command": []string{write(t, s, "closed/program", string(b), 0o755)}}
	}},
	{name: "a key that needs a restart", set: map[string]any{"state_dir": "/tmp/elsewhere"}, says: "state_dir"},
}

func write(t *testing.T, s *service.Service, name, content string, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(s.Dir, name)
	if err := os.WriteFile(path, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestBadInputIsRefusedAndCostsNothing(t *testing.T) {
	besideOthers(t)
	s := started(t, nil)
	good := s.Config
	before := active(t, s)
	underLoad(t, s, quietRate(), func() {
		for _, b := range badReloads {
			if b.asRoot && os.Getuid() != 0 {
				continue
			}
			s.Config = clone(good)
			for k, v := range b.set {
				s.Config.Set(k, v)
			}
			if b.file != nil {
				for k, v := range b.file(t, s) {
					s.Config.Set(k, v)
				}
			}
			if b.set == nil && b.file == nil {
				if err := os.WriteFile(s.File, []byte(b.raw), 0o644); err != nil {
					t.Fatal(err)
				}
			} else if err := s.Write(); err != nil {
				t.Fatal(err)
			}
			out, code := s.CLI(t.Context(), "reload")
			if code != 1 && code != 2 || !strings.Contains(out, b.says) {
				t.Errorf("%s: exit code %d, want 1 or 2 and %q:\n%s", b.name, code, b.says, out)
			}
			t.Logf("%s (exit %d):\n%s", b.name, code, out)
			if got := active(t, s); got != before {
				t.Fatalf("%s: generation %d serves, %d did before", b.name, got, before)
			}
		}
		s.Config = good
		if out := reload(t, s, api.ReloadRequest{}); out.Result != api.ResultDone {
			t.Errorf("the good file again: %+v", out)
		}
	})
}

// active is the generation that has the traffic.
func active(t *testing.T, s *service.Service) uint64 {
	t.Helper()
	st, err := s.API.Status(t.Context())
	if err != nil || st.Active == nil {
		t.Fatalf("status %+v, %v", st, err)
	}
	return st.Active.Generation
}

func TestSecondMasterIsRefused(t *testing.T) {
	besideOthers(t)
	s := started(t, nil)
	out, code := s.CLI(t.Context(), "run")
	if code != 2 || !strings.Contains(out, fmt.Sprint(s.PID())) {
		t.Errorf("exit code %d, want 2 and the pid %d:\n%s", code, s.PID(), out)
	}
	if got := active(t, s); got != 1 {
		t.Errorf("generation %d serves", got)
	}
}

func TestTakenPortIsRefused(t *testing.T) {
	besideOthers(t)
	first := started(t, nil)
	second := newService(t)
	second.Config.Set("listeners", first.Config["listeners"])
	if err := second.Launch(); err != nil {
		t.Fatal(err)
	}
	if code := second.ExitCode(); code != 2 {
		t.Errorf("exit code %d, want 2", code)
	}
	log := second.Log(5)
	if !strings.Contains(log, "in use") || !strings.Contains(log, fmt.Sprint(first.PID())) {
		t.Errorf("the log does not say that the port is in use, and by %d:\n%s", first.PID(), log)
	}
}

func TestBrokenFileAtStartRunsTheLastGoodOne(t *testing.T) {
	besideOthers(t)
	s := started(t, nil)
	baked(t, s)
	if err := s.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code := s.ExitCode(); code != 0 {
		t.Fatalf("exit code %d", code)
	}
	good := s.Config
	s.Config = clone(good).Set("rolout.bake", "1s")
	if err := s.Launch(); err != nil {
		t.Fatal(err)
	}
	if err := s.WaitState(t.Context(), 20*time.Second, "degraded"); err != nil {
		t.Fatal(err)
	}
	st, err := s.API.Status(t.Context())
	if err != nil || len(st.Reasons) == 0 || !strings.Contains(strings.Join(st.Reasons, " "), "rolout") {
		t.Errorf("status %+v, %v", st, err)
	}
	s.Config = good
	// A file that is mended is no trouble any more, whether it is taken over or not.
	if err := s.Write(); err != nil {
		t.Fatal(err)
	}
	if err := s.WaitState(t.Context(), 20*time.Second, "serving"); err != nil {
		t.Error(err)
	}
	cli(t, s, 0, "status")
	if out := reload(t, s, api.ReloadRequest{}); out.Result != api.ResultDone {
		t.Fatalf("the good file again: %+v", out)
	}
	if err := s.WaitState(t.Context(), 20*time.Second, "serving"); err != nil {
		t.Error(err)
	}
}

func TestGarbageOnTheSocketsIsNotNoticed(t *testing.T) {
	besideOthers(t)
	s := started(t, nil)
	n := times(10000, 500)
	res := underLoad(t, s, quietRate(), func() {
		for _, socket := range []string{"admin.sock", "control.sock"} {
			flood(t, filepath.Join(s.Dir, "run", socket), n)
		}
		if out := reload(t, s, api.ReloadRequest{Label: "after"}); out.Result != api.ResultDone {
			t.Errorf("a reload after the flood: %+v", out)
		}
	})
	t.Logf("%d connections of garbage to each socket:\n%s", n, res)
}

// flood makes n connections of garbage, some at a time.
func flood(t *testing.T, path string, n int) {
	t.Helper()
	network := "unix"
	if strings.HasSuffix(path, "control.sock") {
		network = "unixpacket"
	}
	const parallel = 50
	noise := []byte(strings.Repeat("\x00\xff{]GET / HTTP/9\r\n\r\n", 200))
	var wg sync.WaitGroup
	for w := range parallel {
		wg.Go(func() {
			for i := w; i < n; i += parallel {
				c, err := net.DialTimeout(network, path, 5*time.Second)
				if err != nil {
					continue // full: refused is a clear answer
				}
				_ = c.SetDeadline(time.Now().Add(2 * time.Second))
				_, _ = c.Write(noise[:i%len(noise)+1])
				if i%3 == 0 { // some wait for an answer
					_, _ = c.Read(make([]byte, 4096))
				}
				_ = c.Close()
			}
		})
	}
	wg.Wait()
}

func TestFullStateDirectory(t *testing.T) {
	besideOthers(t)
	if os.Getuid() != 0 {
		t.Skip("needs root for a file system of its own")
	}
	s := newService(t)
	state := tmpfs(t, s.Dir, "state", "size=64m")
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	baked(t, s)
	s.Config.Set("worker.env.RELEASE", "v2")
	if out := reload(t, s, api.ReloadRequest{Label: "v2"}); out.Result != api.ResultDone {
		t.Fatalf("%+v", out)
	}
	baked(t, s)
	s.Config.Set("rollout.bake", "20s").Set("worker.env.RELEASE", "v3")
	if out := reload(t, s, api.ReloadRequest{Label: "v3"}); out.Result != api.ResultDone {
		t.Fatalf("%+v", out)
	}
	fill(t, filepath.Join(state, "filler"))
	underLoad(t, s, quietRate(), func() {
		s.Config.Set("worker.env.RELEASE", "v4")
		out := reload(t, s, api.ReloadRequest{Label: "v4"})
		if out.Result != api.ResultFailed || !strings.Contains(out.Reason, "no space left") {
			t.Errorf("a forward move on a full disk: %+v", out)
		}
		t.Log(out.Reason)
		back, err := s.API.Rollback(t.Context(), api.RollbackRequest{}, nil)
		if err != nil || back.Result != api.ResultDone {
			t.Errorf("a rollback on a full disk: %+v, %v", back, err)
		}
	})
}

func TestNoexecStateDirectory(t *testing.T) {
	besideOthers(t)
	if os.Getuid() != 0 {
		t.Skip("needs root for a file system of its own")
	}
	s := newService(t)
	tmpfs(t, s.Dir, "state", "noexec,size=64m")
	if err := s.Launch(); err != nil {
		t.Fatal(err)
	}
	if code := s.ExitCode(); code != 2 || !strings.Contains(s.Log(5), "noexec") {
		t.Errorf("exit code %d, want 2 and a word about noexec:\n%s", code, s.Log(5))
	}
	out, code := s.CLI(t.Context(), "check")
	if code != 2 || !strings.Contains(out, "noexec") {
		t.Errorf("check: exit code %d, want 2 and a word about noexec:\n%s", code, out)
	}
}

// tmpfs mounts a file system that is gone when the test ends.
func tmpfs(t *testing.T, dir, name, options string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.Mkdir(path, 0o711); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", options+",mode=711", "tmpfs", path).CombinedOutput(); err != nil {
		t.Skipf("no file system of our own: %v %s", err, out)
	}
	t.Cleanup(func() { _ = exec.Command("umount", "-l", path).Run() })
	return path
}

// fill takes all that is left of a file system.
func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for size := 1 << 20; size > 0; {
		if _, err := f.Write(make([]byte, size)); err != nil {
			size /= 2
		}
	}
}

// TestAsAnotherUser runs the worker as nobody under a master that is root.
func TestAsAnotherUser(t *testing.T) {
	besideOthers(t)
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	s := started(t, func(c service.Config) { c.Set("worker.user", "nobody") })
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
	if res := underLoad(t, s, quietRate(), func() {
		if out := reload(t, s, api.ReloadRequest{Label: "v2"}); out.Result != api.ResultDone {
			t.Errorf("%+v", out)
		}
	}); res.Requests == 0 {
		t.Error("no requests")
	}
}
