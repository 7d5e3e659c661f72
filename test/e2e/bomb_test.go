package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/test/service"
	"github.com/masterd/masterd/test/service/servicetest"
)

// mostProcesses is how many processes the cgroup of a test's service may have.
const mostProcesses = 200

// fewProcesses makes a cgroup with a limit of processes, as TasksMax= of a unit does.
func fewProcesses(t *testing.T) (dir string) {
	t.Helper()
	base := "/sys/fs/cgroup/pids" // v1
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err == nil {
		base = "/sys/fs/cgroup"
	}
	dir = filepath.Join(base, "masterd-e2e-"+filepath.Base(servicetest.ShortDir(t)))
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Skip("no cgroup with a limit of processes can be made: ", err)
	}
	t.Cleanup(func() {
		eventually(t, "the cgroup to be empty", func() bool {
			pids, _ := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
			for pid := range strings.FieldsSeq(string(pids)) {
				var n int
				_, _ = fmt.Sscan(pid, &n)
				_ = syscall.Kill(n, syscall.SIGKILL)
			}
			return os.Remove(dir) == nil
		})
	})
	if err := os.WriteFile(filepath.Join(dir, "pids.max"), fmt.Append(nil, mostProcesses), 0); err != nil {
		t.Skip("no cgroup with a limit of processes can be made: ", err)
	}
	return dir
}

// processesIn counts them, and their threads.
func processesIn(t *testing.T, dir string) (n int) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "pids.current"))
	if err == nil {
		_, err = fmt.Sscan(string(text), &n)
	}
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// A version that forks without end, in a unit with a limit of processes, takes from the
// master nothing that it needs: it answers, rolls back, ends all of them, and serves the
// next version. With a user of its own the limit of its user leaves the master room;
// as root it does not, and the master has its threads already.
func TestForkBomb(t *testing.T) {
	besideOthers(t)
	if os.Getuid() != 0 {
		t.Skip("needs root for a cgroup with a limit")
	}
	// A number that nobody else has: the limit counts all processes of a user.
	for name, user := range map[string]string{"own user": strconv.Itoa(1_000_000 + os.Getpid()), "root": ""} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := fewProcesses(t)
			s, other := unprepared(t), unprepared(t)
			s.Argv = []string{"sh", "-c", `echo 0 >` + dir + `/cgroup.procs && exec "$@"`, "sh", s.Masterd, "run", "--config", s.File}
			s.Config.Set("worker.user", user).Set("worker.group", user).Set("drain.timeout", "500ms").Set("drain.kill_after", "200ms").Set("health.start.timeout", "30s")
			for _, s := range []*service.Service{s, other} {
				s.Config.Set("worker.command", []string{programs.Hostile, "serves", s.Addr})
				if err := s.Start(t.Context()); err != nil {
					t.Fatal(err)
				}
				baked(t, s)
			}
			master := s.PID()
			s.Config.Set("worker.command", []string{programs.Hostile, "bombs", s.Addr}).Set("rollout.bake", "1m").Set("worker.env.RELEASE", "v2")
			freshly(t, other, func() {
				if out := reload(t, s, api.ReloadRequest{Label: "v2"}); out.Result != api.ResultDone {
					t.Fatalf("%+v", out)
				}
				eventually(t, "the bomb to have gone off", func() bool { return processesIn(t, dir) > mostProcesses*3/4 })
				// Many ask at once, and again: what is busy needs threads.
				var askers sync.WaitGroup
				for range 20 {
					askers.Go(func() {
						for range 3 {
							ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
							if _, err := s.API.Status(ctx); err != nil {
								t.Error(err)
							}
							cancel()
						}
					})
				}
				askers.Wait()
				if s.PID() != master {
					t.Error("it is another master")
				}
				if user != "" { // one that is killed now has a successor, too
					s.Kill()
					if err := s.Start(t.Context()); err != nil {
						t.Fatal(err)
					}
				}
				// The version before may fail its checks for now, as it cannot have a thread
				// either; and that the bomb fails its own may have it rolled back already.
				if err := s.Wait(t.Context(), time.Minute, "the bomb to be gone", func(st api.Status) bool {
					if st.Active.Generation == 2 {
						_, _ = s.API.Rollback(t.Context(), api.RollbackRequest{}, nil)
					}
					return st.Active.Generation == 1 && len(st.Generations) == 1
				}); err != nil {
					t.Error(err)
				}
				eventually(t, "all of it to be gone", func() bool { return processesIn(t, dir) < mostProcesses/4 })
			})
			s.Config.Set("worker.command", []string{programs.Hostile, "serves", s.Addr}).Set("rollout.bake", "200ms")
			next(t, s, 3, "baked")
			freshly(t, s, func() { next(t, s, 4, "baked") })
		})
	}
}
