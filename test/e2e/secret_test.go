package e2e

import (
	"cmp"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/pkg/ipc"
	"github.com/masterd/masterd/test/service"
)

// poses has a process of the worker's user, which is none of its workers, say hello as
// the worker that is process pid, with what is in its environment.
func poses(t *testing.T, s *service.Service, pid int) string {
	t.Helper()
	uid := uint32(os.Getuid())
	if s.Config["worker"].(map[string]any)["user"] == "nobody" {
		uid = nobody
	}
	c := exec.CommandContext(t.Context(), s.Hostile, "poses", strconv.Itoa(pid))
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if os.Getuid() == 0 {
		c.SysProcAttr.Credential = &syscall.Credential{Uid: uid, Gid: uid}
	}
	out, err := c.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return string(out)
}

// onlyWorker is the one that runs, once it has been welcomed.
func onlyWorker(t *testing.T, s *service.Service) (w api.Worker) {
	t.Helper()
	wait(t, s, "one worker that speaks", func(st api.Status) bool {
		if st.State != "serving" || len(st.Generations) != 1 || len(st.Generations[0].Workers) != 1 {
			return false
		}
		w = st.Generations[0].Workers[0]
		return w.Protocol != 0
	})
	return w
}

// spent waits until the secret in the worker's environment is void.
func spent(t *testing.T, s *service.Service, pid int) {
	t.Helper()
	for late := time.Now().Add(patience); ; time.Sleep(poll) {
		said := poses(t, s, pid)
		if strings.Contains(said, "that is not its secret") {
			return
		}
		if !strings.Contains(said, "which is not in its process group") || time.Now().After(late) {
			t.Fatalf("with the secret in its environment the master says %q\n%s", said, s.Log(2000))
		}
	}
}

// A sibling reads a worker's environment and says hello with what is there, while it
// serves and after the master has died. The worker is not disturbed, and what was read
// is void.
func TestTheSecretInAnEnvironmentIsVoid(t *testing.T) {
	besideOthers(t)
	for _, user := range []string{"", "nobody"} {
		t.Run(cmp.Or(user, "the master's user"), func(t *testing.T) {
			t.Parallel()
			if user != "" && os.Getuid() != 0 {
				t.Skip("needs root, to have workers of another user")
			}
			s := started(t, func(c service.Config) {
				if user != "" {
					c.Set("worker.user", user)
				}
			})
			baked(t, s)
			w := onlyWorker(t, s)
			if w.Protocol != ipc.MaxVersion {
				t.Errorf("it speaks protocol %d", w.Protocol)
			}
			spent(t, s, w.PID)
			s.Kill()
			if err := s.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			if again := onlyWorker(t, s); again.PID != w.PID {
				t.Fatalf("worker %d is process %d and was %d\n%s", again.ID, again.PID, w.PID, s.Log(3000))
			}
			spent(t, s, w.PID)
			next(t, s, 2, "baked")
		})
	}
}

// The master is killed between any two steps of a renewal. The same process is the
// worker afterwards, and only by a secret that was never in its environment.
func TestMasterDiesBetweenTheStepsOfARenewal(t *testing.T) {
	besideOthers(t)
	s, when := dying(t)
	s.Config.Set("restart.loop_window", "1s").Set("restart.initial", "100ms")
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	baked(t, s)
	for step := range 4 {
		before := onlyWorker(t, s)
		if err := os.WriteFile(when, fmt.Appendf(nil, "%d workers.secretSent", step), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Kill(before.PID, syscall.SIGKILL); err != nil { // its replacement is what matters
			t.Fatal(err)
		}
		ended(t, s)
		if text, err := os.ReadFile(when); err != nil || string(text) != "-1" {
			t.Fatalf("it did not die of step %d: %q, %v\n%s", step, text, err, s.Log(3000))
		}
		if err := s.Start(t.Context()); err != nil {
			t.Fatalf("after a death at step %d: %v", step, err)
		}
		w := onlyWorker(t, s)
		if w.ID != before.ID+1 {
			t.Errorf("after a death at step %d worker %d is there, and not the replacement of %d\n%s", step, w.ID, before.ID, s.Log(5000))
		}
		spent(t, s, w.PID)
	}
	next(t, s, 2, "baked")
}

// A worker with an SDK of protocol 1 serves as ever, and status names it.
func TestAWorkerOfProtocol1IsNamed(t *testing.T) {
	t.Parallel()
	const python = "/usr/bin/python3"
	if _, err := os.Stat(python); err != nil {
		t.Skip("no python3 here")
	}
	text, err := os.ReadFile("../../pkg/ipc/PROTOCOL.md")
	if err != nil {
		t.Fatal(err)
	}
	_, program, _ := strings.Cut(string(text), "```python\n")
	program, _, _ = strings.Cut(program, "```\n")
	old := strings.NewReplacer("max=2", "max=1", "control = inherited()", "control = None").Replace(program)
	if !strings.Contains(old, "max=1") || !strings.Contains(old, "control = None") {
		t.Fatal("the worker of PROTOCOL.md is not what it was")
	}
	s := newService(t)
	script := filepath.Join(s.Dir, "worker.py")
	if err := os.WriteFile(script, []byte(old), 0o600); err != nil {
		t.Fatal(err)
	}
	s.Config.Set("worker.command", []string{python, script})
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if w := onlyWorker(t, s); w.Protocol != 1 {
		t.Errorf("it speaks protocol %d", w.Protocol)
	} else if said := poses(t, s, w.PID); !strings.Contains(said, "which is not in its process group") {
		t.Errorf("with its secret the master says %q", said)
	}
	if out := cli(t, s, 0, "status"); !strings.Contains(out, "speaks control protocol 1") {
		t.Errorf("status says:\n%s", out)
	}
}

// The master dies in the middle of a rollout that changes the workers' user. Those of
// both come back to the next one, and the traffic can go back, too.
func TestTakeoverWhileTheUserChanges(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("needs root, to have workers of other users")
	}
	as := func(c service.Config, user string) { c.Set("worker.user", user).Set("worker.group", user) }
	s := started(t, func(c service.Config) {
		as(c, "58231")
		c.Set("log.level", "debug")
	})
	baked(t, s)
	as(s.Config, "58232")
	s.Config.Set("rollout.bake", "10m")
	next(t, s, 2, "serving")
	before := status(t, s)
	const came = `"msg":"worker connected"`
	s.Kill()
	met := strings.Count(s.Log(10000), came)
	again(t, s)
	eventually(t, "workers of both users to be back", func() bool { return strings.Count(s.Log(10000), came) == met+2 })
	eventually(t, "the socket to be one user's again", func() bool {
		info, err := os.Lstat(filepath.Join(s.Dir, "run", "control.sock"))
		return err == nil && info.Mode().Perm() == 0o600
	})
	if was, is := pidsByWorker(before), pidsByWorker(status(t, s)); !maps.Equal(was, is) {
		t.Errorf("workers were %v and are %v", was, is)
	}
	back(t, s, "")
}
