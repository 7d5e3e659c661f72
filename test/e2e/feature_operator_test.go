package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/test/service"
)

func TestConfirm(t *testing.T) {
	t.Parallel()
	s := started(t, nil)
	baked(t, s)
	cli(t, s, 0, "reload", "--label", "v2", "--confirm", "1s")
	wait(t, s, "the one before to serve again", func(st api.Status) bool { return st.Active.Generation == 1 && st.Rollout == nil })
	var e *api.Entry
	eventually(t, "the history", func() bool {
		e = history(t, s, func(e api.Entry) bool { return e.What == "reload" && e.Version == "v2" })
		return e != nil
	})
	if e.Outcome != api.ResultRolledBack || e.Stage != "confirm" || !strings.Contains(e.Reason, "promoted") {
		t.Errorf("%+v", e)
	}
	cli(t, s, 0, "reload", "--label", "v3", "--confirm", "30s")
	cli(t, s, 0, "promote", "--reason", "looks fine")
	wait(t, s, "v3 to be baked", func(st api.Status) bool { return st.Active.Version.Label == "v3" && st.Active.Baked })
	next(t, s, 4, "baked")
	if e := history(t, s, func(e api.Entry) bool { return e.What == "reload" && e.Version == "v3" }); e == nil || e.Outcome != api.ResultDone {
		t.Errorf("%+v", e)
	}
	cli(t, s, 1, "promote")
}

func TestAbortAndHold(t *testing.T) {
	t.Parallel()
	s := started(t, nil)
	underLoad(t, s, quietRate(), func() {
		baked(t, s)
		cli(t, s, 1, "abort")
		s.Config.Set("worker.env.DEMO_START_DELAY", "30s")
		if err := s.Write(); err != nil {
			t.Fatal(err)
		}
		r := begin(t, s, "reload", "--label", "slow")
		stage(t, s, "start")
		cli(t, s, 0, "abort", "--reason", "wrong day")
		if out := r.ended(t, 1); !strings.Contains(out, "wrong day") {
			t.Errorf("the aborted reload:\n%s", out)
		}
		delete(s.Config["worker"].(map[string]any)["env"].(map[string]any), "DEMO_START_DELAY")
		next(t, s, 2, "baked")
		cli(t, s, 0, "hold", "the database moves")
		if out := cli(t, s, 5, "reload"); !strings.Contains(out, "the database moves") {
			t.Errorf("a held reload:\n%s", out)
		}
		if out := cli(t, s, 0, "status"); !strings.Contains(out, "the database moves") {
			t.Errorf("the page does not show the hold:\n%s", out)
		}
		cli(t, s, 0, "rollback", "--reason", "that stays possible")
		cli(t, s, 0, "unhold")
		cli(t, s, 1, "unhold")
		next(t, s, 3, "baked")
	})
}

func TestSuperseding(t *testing.T) {
	t.Parallel()
	s := started(t, nil)
	baked(t, s)
	good := s.Config
	underLoad(t, s, quietRate(), func() {
		s.Config = clone(good).Set("worker.env.DEMO_HANG", "1")
		if err := s.Write(); err != nil {
			t.Fatal(err)
		}
		first := begin(t, s, "reload", "--label", "hangs")
		stage(t, s, "start")
		s.Config = good
		if err := s.Write(); err != nil {
			t.Fatal(err)
		}
		out := cli(t, s, 0, "reload", "--label", "v3", "--reason", "the fix", "--confirm", "1m")
		if strings.Count(out, "reload 2 of root (uid 0) was given up for it at stage start") != 2 {
			t.Errorf("who superseded it is not told, at once and at the end:\n%s", out)
		}
		if out := first.ended(t, 5); !strings.Contains(out, "start") || !strings.Contains(out, "the fix") {
			t.Errorf("the superseded one is not told at which stage and why:\n%s", out)
		}
		if out := cli(t, s, 5, "reload", "--label", "v4"); !strings.Contains(out, "--replace") {
			t.Errorf("the traffic has moved:\n%s", out)
		}
		cli(t, s, 0, "reload", "--label", "v4", "--replace")
		serves(t, s, "v4")
	})
}

func TestCallersThatGoAway(t *testing.T) {
	t.Parallel()
	s := started(t, nil)
	baked(t, s)
	delay := func(d string) {
		s.Config.Set("worker.env.DEMO_START_DELAY", d)
		if err := s.Write(); err != nil {
			t.Fatal(err)
		}
	}
	delay("2s")
	cli(t, s, 0, "reload", "--label", "detached", "--detach")
	if st := status(t, s); st.Active.Generation != 1 || st.Rollout == nil {
		t.Errorf("--detach came back when it was over: %+v", st.Active)
	}
	serves(t, s, "detached")
	delay("4s")
	if out := cli(t, s, 6, "reload", "--label", "impatient", "--timeout", "1500ms"); !strings.Contains(out, "1.5s") {
		t.Errorf("--timeout:\n%s", out)
	}
	serves(t, s, "impatient")
	for i, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGKILL} {
		r := begin(t, s, "reload", "--label", label(i))
		stage(t, s, "start")
		_ = r.cmd.Process.Signal(sig)
		<-r.done
		if code := r.cmd.ProcessState.ExitCode(); sig == syscall.SIGINT && code != 6 {
			t.Errorf("Ctrl-C: exit code %d, want 6:\n%s", code, r.out)
		}
		serves(t, s, label(i))
	}
}

func TestExitCodesOfStatusAndALostMaster(t *testing.T) {
	t.Parallel()
	s := newService(t)
	if err := s.Write(); err != nil {
		t.Fatal(err)
	}
	cli(t, s, 3, "status")
	cli(t, s, 3, "reload")
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	cli(t, s, 0, "status")
	var st api.Status
	if err := json.Unmarshal([]byte(cli(t, s, 0, "status", "--json")), &st); err != nil || st.Schema != api.Schema || st.Service != "demo" {
		t.Errorf("status --json: %+v, %v", st, err)
	}
	s.Config.Set("worker.env.DEMO_START_DELAY", "30s")
	if err := s.Write(); err != nil {
		t.Fatal(err)
	}
	r := begin(t, s, "reload")
	wait(t, s, "both workers' processes", func(st api.Status) bool { return len(pids(st)) == 2 })
	left := s.Processes()
	if err := s.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	r.ended(t, 6)
	ended(t, s)
	cli(t, s, 3, "status")
	for _, pid := range left { // they outlive it; here nobody takes them over
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	eventually(t, "the end of the workers and of the keeper", func() bool {
		for _, pid := range left {
			if syscall.Kill(pid, 0) == nil && !zombie(pid) {
				return false
			}
		}
		return true
	})
}

// pids are all workers'.
func pids(st api.Status) (all []int) {
	for _, g := range st.Generations {
		for _, w := range g.Workers {
			if w.PID > 0 {
				all = append(all, w.PID)
			}
		}
	}
	return all
}

// zombie: it is dead, and whoever adopted it has not noticed.
func zombie(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && strings.Contains(string(b), ") Z ")
}

func TestSignals(t *testing.T) {
	t.Parallel()
	s := newService(t)
	log := filepath.Join(s.Dir, "own.log")
	s.Config.Set("log.file", log)
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	baked(t, s)
	signal := func(sig syscall.Signal) {
		t.Helper()
		if err := s.Signal(sig); err != nil {
			t.Fatal(err)
		}
	}
	env := func() []string { return status(t, s).Active.Version.Env }
	s.Config.Set("worker.env.NEW", "1")
	if err := s.Write(); err != nil {
		t.Fatal(err)
	}
	underLoad(t, s, quietRate(), func() {
		signal(syscall.SIGUSR2)
		wait(t, s, "generation 2", func(st api.Status) bool { return st.Active.Generation == 2 })
		if strings.Contains(fmt.Sprint(env()), "NEW") {
			t.Error("USR2 took a new configuration")
		}
		signal(syscall.SIGHUP)
		wait(t, s, "generation 3", func(st api.Status) bool { return st.Active.Generation == 3 })
		if !strings.Contains(fmt.Sprint(env()), "NEW") {
			t.Error("HUP did not take the new configuration")
		}
	})
	if by := status(t, s).Active.By; by != "SIGHUP" {
		t.Errorf("by %q", by)
	}
	if err := os.Rename(log, log+".1"); err != nil {
		t.Fatal(err)
	}
	signal(syscall.SIGUSR1)
	eventually(t, "a new log file", func() bool { _, err := os.Stat(log); return err == nil })
	baked(t, s)
	signal(syscall.SIGUSR2)
	wait(t, s, "generation 4", func(st api.Status) bool { return st.Active.Generation == 4 })
	eventually(t, "lines in the new log file", func() bool {
		b, _ := os.ReadFile(log)
		return strings.Contains(string(b), "SIGUSR2") || strings.Contains(string(b), "steered")
	})
	// A bad file: nothing happens, and it is said.
	if err := os.WriteFile(s.File, []byte("service: [\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	signal(syscall.SIGHUP)
	eventually(t, "the refusal in the log", func() bool {
		b, _ := os.ReadFile(log)
		return strings.Contains(string(b), "reload refused")
	})
	if got := active(t, s); got != 4 {
		t.Errorf("generation %d is active", got)
	}
	// QUIT waits for what is under way.
	a := slowly(t, s, 1500*time.Millisecond)
	signal(syscall.SIGQUIT)
	a.good(t)
	if code := s.ExitCode(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

func TestStops(t *testing.T) {
	t.Parallel()
	t.Run("TERM finishes what is under way", func(t *testing.T) {
		s := started(t, nil)
		a := slowly(t, s, 1500*time.Millisecond)
		if err := s.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		a.good(t)
		if code := s.ExitCode(); code != 0 {
			t.Errorf("exit code %d", code)
		}
	})
	t.Run("the second TERM ends it now", func(t *testing.T) {
		s := started(t, nil)
		a := slowly(t, s, 30*time.Second)
		if err := s.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		wait(t, s, "state stopping", func(st api.Status) bool { return st.State == "stopping" })
		if err := s.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		select {
		case <-s.Ended():
		case <-time.After(5 * time.Second):
			t.Error("it did not end")
		}
		<-a.done
	})
	t.Run("stop_timeout", func(t *testing.T) {
		s := started(t, func(c service.Config) { c.Set("stop_timeout", "1s") })
		slowly(t, s, 30*time.Second)
		begun := time.Now()
		if err := s.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		if code := s.ExitCode(); code != 0 {
			t.Errorf("exit code %d", code)
		}
		if took := time.Since(begun); took < 900*time.Millisecond || took > 5*time.Second {
			t.Errorf("it took %s", took)
		}
	})
	t.Run("production wants its name", func(t *testing.T) {
		s := started(t, nil)
		s.Config.Set("environment", "production")
		next(t, s, 2, "baked") // it follows the traffic
		if out := cli(t, s, 1, "stop"); !strings.Contains(out, "--confirm demo") {
			t.Errorf("%s", out)
		}
		cli(t, s, 1, "stop", "--confirm", "another")
		cli(t, s, 0, "stop", "--confirm", "demo", "--reason", "end of the day")
		if code := s.ExitCode(); code != 0 {
			t.Errorf("exit code %d", code)
		}
	})
}

func TestLogs(t *testing.T) {
	t.Parallel()
	s := started(t, func(c service.Config) {
		c.Set("log.per_worker", "32KiB/s").Set("worker.env.DEMO_LOG_FLOOD", "20000")
	})
	underLoad(t, s, quietRate(), func() {
		wait(t, s, "dropped lines", func(st api.Status) bool { return len(team(st)) == 1 && team(st)[0].Dropped > 1000 })
		if out := cli(t, s, 0, "logs", "-n", "7"); strings.Count(out, "\n") != 7 {
			t.Errorf("logs -n 7:\n%s", out)
		}
		// Following ends with Ctrl-C, and well.
		r := s.Command(t.Context(), "logs", "-f", "-n", "0")
		out, err := r.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Start(); err != nil {
			t.Fatal(err)
		}
		in := bufio.NewReader(out)
		for range 20 {
			if _, err := in.ReadString('\n'); err != nil {
				t.Fatal(err)
			}
		}
		_ = r.Process.Signal(os.Interrupt)
		_, _ = io.Copy(io.Discard, in)
		if err := r.Wait(); err != nil {
			t.Errorf("logs -f: %v", err)
		}
		delete(s.Config["worker"].(map[string]any)["env"].(map[string]any), "DEMO_LOG_FLOOD")
		next(t, s, 2, "baked")
	})
	b, err := os.ReadFile(filepath.Join(s.Dir, "masterd.log"))
	if err != nil {
		t.Fatal(err)
	}
	if len(b) > 4<<20 {
		t.Errorf("the log has %d bytes", len(b))
	}
}

func TestVersionsAndSecrets(t *testing.T) {
	t.Parallel()
	const secret, fileSecret = "hunter2-of-the-configuration", "hunter3-of-the-file"
	s := newService(t)
	file := filepath.Join(s.Dir, "env")
	if err := os.WriteFile(file, []byte("FROM_FILE="+fileSecret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.Config.Set("worker.env.PASSWORD", secret).Set("worker.env_files", []string{file}).Set("rollout.keep_versions", 2)
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	next(t, s, 2, "baked")
	cli(t, s, 0, "versions", "pin", label(2))
	s.Config.Set("worker.env.PASSWORD", secret+"2")
	for i := 3; i <= 7; i++ {
		next(t, s, i, "baked")
	}
	var list api.Versions
	listed := func() (labels string) {
		if err := json.Unmarshal([]byte(cli(t, s, 0, "versions", "list", "--json")), &list); err != nil {
			t.Fatal(err)
		}
		for _, v := range list.Versions {
			labels += v.Label + " "
		}
		return labels
	}
	eventually(t, "old versions to go, the kept one to stay", func() bool {
		l := listed()
		return strings.Contains(l, "v7") && strings.Contains(l, "v2 ") && !strings.Contains(l, "v3")
	})
	diff := cli(t, s, 0, "versions", "diff", "v2", "v7")
	if !strings.Contains(diff, "PASSWORD") || !strings.Contains(diff, "RELEASE") {
		t.Errorf("diff:\n%s", diff)
	}
	cli(t, s, 0, "versions", "unpin", label(2))
	next(t, s, 8, "baked")
	eventually(t, "the version that is not kept any more to go", func() bool { return !strings.Contains(listed(), "v2 ") })
	cli(t, s, 1, "rollback", "v2")
	cli(t, s, 0, "rollback", "v7", "--reason", "because")
	var h api.History
	if err := json.Unmarshal([]byte(cli(t, s, 0, "history", "--json", "-n", "100")), &h); err != nil || h.Schema != api.Schema || len(h.Entries) < 8 {
		t.Errorf("history --json: %+v, %v", h, err)
	}
	// No value of the environment is ever shown.
	shown := diff + cli(t, s, 0, "status") + cli(t, s, 0, "status", "--json") + cli(t, s, 0, "versions", "list", "--json") +
		cli(t, s, 0, "history", "--json") + cli(t, s, 0, "check") + s.Log(100000)
	for _, pid := range append(pids(status(t, s)), s.PID()) {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // one that was told to end
			t.Fatal(err)
		}
		shown += string(b)
	}
	if strings.Contains(shown, "hunter") {
		i := strings.Index(shown, "hunter")
		t.Errorf("a secret is shown: …%s…", shown[max(0, i-300):i+40])
	}
	// What is stored with the versions is for root and the master alone.
	_ = filepath.WalkDir(filepath.Join(s.Dir, "state"), func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return nil
		}
		b, _ := os.ReadFile(path)
		if strings.Contains(string(b), fileSecret) {
			t.Errorf("%s holds what env_files say", path)
		}
		if info, err := d.Info(); err == nil && strings.Contains(string(b), secret) && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s holds a secret and has mode %v", path, info.Mode())
		}
		return nil
	})
}

func TestHooks(t *testing.T) {
	t.Parallel()
	s := newService(t)
	facts := func(name string) string { return filepath.Join(s.Dir, "hook-"+name) }
	for _, name := range []string{"before", "after", "failed"} {
		// Written whole or not at all.
		s.Config.Set("rollout.hooks."+name, [][]string{{"/bin/sh", "-c", fmt.Sprintf("env > %[1]s.new; mv %[1]s.new %[1]s", facts(name))}})
	}
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	baked(t, s)
	says := func(name string, wants ...string) {
		t.Helper()
		var env string
		eventually(t, "the hook "+name, func() bool {
			b, _ := os.ReadFile(facts(name))
			env = string(b)
			for _, want := range wants {
				if !strings.Contains("\n"+env, "\n"+want) {
					return false
				}
			}
			return env != ""
		})
	}
	next(t, s, 2, "baked")
	says("before", "MASTERD_HOOK=before\n", "MASTERD_SERVICE=demo\n", "MASTERD_VERSION=v2\n", "MASTERD_DIGEST=sha256:", "MASTERD_ROLLOUT=2\n", "MASTERD_TRACE_ID=")
	says("after", "MASTERD_HOOK=after\n", "MASTERD_VERSION=v2\n", "MASTERD_GENERATION=2\n", "MASTERD_OUTCOME=done\n", "MASTERD_TRACE_ID=")
	s.Config.Set("worker.env.DEMO_EXIT", "7")
	if out := reload(t, s, api.ReloadRequest{Label: "bad"}); out.Result != api.ResultFailed {
		t.Errorf("%+v", out)
	}
	says("failed", "MASTERD_HOOK=failed\n", "MASTERD_VERSION=bad\n", "MASTERD_OUTCOME=failed\n", "MASTERD_STAGE=start\n", "MASTERD_REASON=")
}

func TestTooLittleMemory(t *testing.T) {
	t.Parallel()
	s := started(t, func(c service.Config) { c.Set("worker.processes", 3) })
	underLoad(t, s, quietRate(), func() {
		for _, when := range []string{"refuse", "one"} {
			s.Config.Set("rollout.memory", map[string]any{"reserve": "1000GiB", "when_short": when})
			out := reload(t, s, api.ReloadRequest{})
			if out.Result != api.ResultFailed || out.Stage != "prepare" || !strings.Contains(out.Reason, "memory is short") || !strings.Contains(out.Reason, "1024000 MiB") {
				t.Errorf("when_short %s: %+v", when, out)
			}
		}
	})
}

// as runs a verb as nobody, in some groups.
func as(t *testing.T, s *service.Service, want int, groups []uint32, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	cmd := s.Command(ctx, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534, Groups: groups}}
	cmd.Dir = "/"
	out, err := cmd.CombinedOutput()
	code := 0
	if exit, ok := err.(*exec.ExitError); ok {
		code = exit.ExitCode()
	} else if err != nil {
		t.Fatal(err)
	}
	if code != want {
		t.Errorf("as nobody in %v: masterd %s: exit code %d, want %d:\n%s", groups, strings.Join(args, " "), code, want, out)
	}
	return string(out)
}

func gid(t *testing.T, name string) uint32 {
	t.Helper()
	g, err := user.LookupGroup(name)
	if err != nil {
		t.Skip(err)
	}
	n, _ := strconv.ParseUint(g.Gid, 10, 32)
	return uint32(n)
}

func TestWhoMayAsk(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root to be somebody else")
	}
	t.Parallel()
	readers, operators := gid(t, "daemon"), gid(t, "bin")
	s := started(t, func(c service.Config) {
		c.Set("admin", map[string]any{"readers_group": "daemon", "operators_group": "bin"})
	})
	as(t, s, 0, []uint32{readers}, "status")
	as(t, s, 0, []uint32{readers}, "history")
	if out := as(t, s, 1, []uint32{readers}, "reload"); !strings.Contains(out, "may not change the service demo") || !strings.Contains(out, `"bin"`) {
		t.Errorf("a reader's reload:\n%s", out)
	}
	as(t, s, 0, []uint32{operators}, "reload", "--label", "v2")
	if by := status(t, s).Active.By; !strings.Contains(by, "nobody") {
		t.Errorf("by %q", by)
	}
	if out := as(t, s, 4, nil, "status"); !strings.Contains(out, "may not look at the service demo") {
		t.Errorf("a stranger's status:\n%s", out)
	}
	as(t, s, 1, nil, "reload")
	// A service without groups refuses in the kernel, and the sentence is ours.
	closed := started(t, nil)
	if out := as(t, closed, 4, nil, "status"); !strings.Contains(out, "root") {
		t.Errorf("a closed socket:\n%s", out)
	}
	if got := active(t, s); got != 2 {
		t.Errorf("generation %d", got)
	}
}

// TestRawHTTP asks as curl --unix-socket does.
func TestRawHTTP(t *testing.T) {
	t.Parallel()
	s := started(t, nil)
	var conns atomic.Int64
	c := &http.Client{Timeout: patience, Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		conns.Add(1)
		var d net.Dialer
		return d.DialContext(ctx, "unix", filepath.Join(s.Dir, "run", "admin.sock"))
	}}}
	defer c.CloseIdleConnections()
	for _, q := range []struct {
		method, path, body string
		code               int
		says               string
	}{
		{"GET", "/v1/status", "", 200, `"state":"serving"`},
		{"GET", "/v1/openapi.yaml", "", 200, "openapi:"},
		{"GET", "/v1/nothing", "", 404, "/v1/nothing"},
		{"DELETE", "/v1/status", "", 405, "DELETE"},
		{"POST", "/v1/reload", `{"lable":"v2"}`, 400, "lable"},
		{"POST", "/v1/reload", `{"label":"v2"}`, 200, `"result":"done"`},
		{"POST", "/v1/rollback", `{"version":"nope"}`, 404, "nope"},
	} {
		req, err := http.NewRequestWithContext(t.Context(), q.method, "http://localhost"+q.path, strings.NewReader(q.body))
		if err != nil {
			t.Fatal(err)
		}
		if q.body != "" {
			req.Header.Set("Content-Type", "application/json")
		}
		res, err := c.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err != nil || res.StatusCode != q.code || !strings.Contains(string(b), q.says) {
			t.Errorf("%s %s %s: %d %s, %v; want %d and %s", q.method, q.path, q.body, res.StatusCode, b, err, q.code, q.says)
		}
	}
}
