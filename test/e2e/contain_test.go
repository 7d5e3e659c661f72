package e2e

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/test/service"
)

// withoutCgroups has a service's master see no cgroups.
func withoutCgroups(t *testing.T, s *service.Service) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("hiding the cgroups needs root")
	}
	if _, err := exec.LookPath("unshare"); err != nil {
		t.Skip(err)
	}
	s.Argv = []string{"unshare", "-m", "sh", "-c", `mount -t tmpfs none /sys/fs/cgroup && exec "$@"`, "sh", s.Masterd, "run", "--config", s.File}
}

// programsOf are the living processes whose command line names a service's address, but
// for its master and keeper, whatever they have made of their environment.
func programsOf(s *service.Service) (pids []int) {
	all, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range all {
		line, err := os.ReadFile(dir + "/cmdline")
		stat, _ := os.ReadFile(dir + "/stat")
		if err == nil && bytes.Contains(line, []byte("\x00"+s.Addr+"\x00")) && !bytes.Contains(stat, []byte(") Z ")) {
			pid, _ := strconv.Atoi(filepath.Base(dir))
			pids = append(pids, pid)
		}
	}
	return pids
}

// What a refused version leaves behind is ended before the refusal is told, and nothing
// outlives a stop: ten times a program that binds, leaves a daemon with its socket in a
// session of its own, and exits as if all were well.
func TestDaemonsOfRefusedVersions(t *testing.T) {
	besideOthers(t)
	for _, cgroups := range []bool{true, false} {
		for _, kind := range []string{"unmodified", "socket-activation"} {
			for _, way := range []string{"leaves-daemon", "leaves-bare-daemon"} {
				t.Run(fmt.Sprintf("%s/%s/cgroups=%v", kind, way, cgroups), func(t *testing.T) {
					t.Parallel()
					daemonsOfRefused(t, kind, way, cgroups)
				})
			}
		}
	}
}

func daemonsOfRefused(t *testing.T, kind, way string, cgroups bool) {
	s := unprepared(t)
	if !cgroups {
		withoutCgroups(t, s)
	}
	s.Config.Set("worker.kind", kind).Set("worker.command", []string{programs.Hostile, "serves", s.Addr}).Set("health.start.timeout", "4s").Set("rollout.bake", "3s")
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	baked(t, s)
	st := status(t, s)
	if cgroups && st.Master.Cgroup == "" {
		t.Skip("there is no cgroup here: ", st.Master.NoCgroup)
	}
	if !cgroups && st.Master.NoCgroup == "" {
		t.Fatalf("%+v", st.Master)
	}
	found := cgroups || way != "leaves-bare-daemon" // else it is known to get away until the stop
	// The second refusal finds what the first has left.
	for i := range times(10, 2) {
		s.Config.Set("worker.command", []string{programs.Hostile, way, s.Addr}).Set("worker.env.RELEASE", fmt.Sprint("bad", i))
		if reload(t, s, api.ReloadRequest{}).Result != api.ResultFailed { // its daemon was quick to answer a check
			if !found {
				break // one that gets away answers the checks of the next
			}
			wait(t, s, "the first version to be back", func(st api.Status) bool { return st.Active.Generation == 1 && st.Rollout == nil })
		}
		if left := programsOf(s); found && len(left) != 1 {
			t.Fatalf("after refusal %d processes %v are there, want the worker alone\n%s", i, left, s.Log(20))
		}
	}
	if err := s.Stop(); err != nil {
		t.Error(err)
	}
	if left := programsOf(s); len(left) > 0 {
		t.Errorf("processes %v outlive the stop", left)
	}
}

// What a worker leaves while there is no master is ended by the next one, and the worker
// that lives is not touched.
func TestLeftoversOfWorkersThatDiedWithTheMaster(t *testing.T) {
	besideOthers(t)
	for _, cgroups := range []bool{true, false} {
		t.Run(fmt.Sprint(cgroups), func(t *testing.T) {
			t.Parallel()
			s := unprepared(t)
			if !cgroups {
				withoutCgroups(t, s)
			}
			s.Config.Set("worker.processes", 2).Set("worker.command", []string{programs.Hostile, "daemons", s.Addr})
			if err := s.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			baked(t, s)
			before := team(status(t, s))
			if len(before) != 2 || len(programsOf(s)) != 4 {
				t.Fatalf("%+v, %v", before, programsOf(s))
			}
			s.Kill()
			if err := syscall.Kill(before[0].PID, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			if err := s.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			wait(t, s, "two workers again", func(st api.Status) bool { return len(team(st)) == 2 && len(programsOf(s)) == 4 })
			after := team(status(t, s))
			if !slices.ContainsFunc(after, func(w api.Worker) bool { return w.PID == before[1].PID }) {
				t.Errorf("the one that lived is not there: %+v", after)
			}
			for _, w := range after {
				if w.Processes != 2 && status(t, s).Master.Cgroup != "" {
					t.Errorf("%+v", w)
				}
			}
			if err := s.Stop(); err != nil {
				t.Error(err)
			}
			if left := programsOf(s); len(left) > 0 {
				t.Errorf("processes %v outlive the stop", left)
			}
		})
	}
}

// A worker may hand its place on more than once.
func TestMainProcessHandsOnTwice(t *testing.T) {
	besideOthers(t)
	for _, way := range []string{"same-group", "own-group-erased"} {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			s := unprepared(t)
			if way != "same-group" { // nothing but its cgroup tells whose it is
				s.Config.Set("worker.env.ERASES", "1").Set("worker.env.OWN_GROUP", "1")
			}
			handsOnTwice(t, s, way != "same-group")
		})
	}
}

func handsOnTwice(t *testing.T, s *service.Service, byCgroup bool) {
	s.Config.Set("worker.kind", "socket-activation").Set("worker.notify_access", "group").Set("worker.command", []string{programs.Hostile, "hands-on", s.Addr})
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if byCgroup && status(t, s).Master.Cgroup == "" {
		t.Skip("there are no cgroups here")
	}
	first := team(status(t, s))[0]
	eventually(t, "the third process to be all that is left of the worker", func() bool {
		w := team(status(t, s))
		left := programsOf(s)
		return len(w) == 1 && len(left) == 1 && left[0] == w[0].PID
	})
	if w := team(status(t, s))[0]; w.ID != first.ID || w.Restarts != 0 {
		t.Errorf("it was replaced: %+v, then %+v\n%s", first, w, s.Log(30))
	}
	baked(t, s)
	freshly(t, s, func() {
		s.Config.Set("worker.command", []string{programs.Hostile, "serves", s.Addr})
		next(t, s, 2, "baked")
	})
}

// A worker that names two main processes in turn is watched once, and no more is written
// about it than about others.
func TestMainProcessAlternates(t *testing.T) {
	t.Parallel()
	s := unprepared(t)
	s.Config.Set("worker.ready", "notify").Set("worker.notify_access", "group").Set("worker.command", []string{programs.Hostile, "alternates", s.Addr}).Set("health.start.timeout", "20s")
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	baked(t, s)
	pidfds := 0
	fds, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", s.PID()))
	for _, fd := range fds {
		if to, err := os.Readlink(fd); err == nil && strings.Contains(to, "pidfd") {
			pidfds++
		}
	}
	if pidfds > 3 { // the keeper's, the worker's, and that of the process that was the worker first
		t.Errorf("the master holds %d processes", pidfds)
	}
	if err := s.Stop(); err != nil {
		t.Error(err)
	}
	if code := s.ExitCode(); code != 0 {
		t.Errorf("the master ended with %d\n%s", code, s.Log(30))
	}
	log := s.Log(100_000)
	if n := strings.Count(log, "another process is the worker from now on"); n == 0 || n > 20 {
		t.Errorf("it changed %d times", n)
	}
	if n := strings.Count(log, "too often"); n == 0 || n > 5 {
		t.Errorf("%d lines say that it was refused", n)
	}
}
