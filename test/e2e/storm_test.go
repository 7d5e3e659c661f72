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
)

const (
	// answerSoon is how long a master may take to tell its status while a worker does its
	// worst, on a machine where nothing else runs.
	answerSoon = 200 * time.Millisecond
	// quietAnswer is how long it takes at the most before that on such a machine, in the
	// time of quietTime. On any other, answerSoon would say more of the machine.
	quietAnswer, quietTime = 40 * time.Millisecond, 5 * time.Second
)

// A version that does all that a worker can do against its master, at one time, first as
// a candidate that is refused and then as a version that was rolled back, costs no client
// of another version anything, and none of a service beside it; and both masters answer.
// What it does: its listener lets nobody in; what it sends cannot be closed; it changes
// its main process without end; it fills the file system that both services' runtime
// directories are in; it starts processes without end; what it leaves behind takes and
// spoils its slot. It all goes on until the version's end, and what is left behind goes
// on after that where there is no cgroup to end it by. It has a user of its own.
func TestStorm(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root for a limit of processes, another user and a file system of its own")
	}
	for i, name := range []string{"cgroups", "no cgroups"} {
		t.Run(name, func(t *testing.T) {
			if !*full { // in full the time until an answer is measured
				t.Parallel()
			}
			// A number that nobody else has: the limit counts all processes of a user.
			storms(t, 2_000_000_000+8*os.Getpid()+4*i, name == "cgroups")
		})
	}
}

func storms(t *testing.T, uid int, cgroups bool) {
	dir := fewProcesses(t)
	s, other := unprepared(t), unprepared(t)
	sharedRuntime(t, s, other)
	left := filepath.Join(s.Dir, "theirs", "left") // as a worker's own files are
	for _, err := range []error{os.Mkdir(filepath.Dir(left), 0o700), os.WriteFile(left, nil, 0o600),
		os.Chown(filepath.Dir(left), uid, uid), os.Chown(left, uid, uid)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	s.Argv = []string{s.Masterd, "run", "--config", s.File}
	if !cgroups {
		withoutCgroups(t, s)
	}
	s.Argv = append([]string{"sh", "-c", `echo 0 >` + dir + `/cgroup.procs && exec "$@"`, "sh"}, s.Argv...)
	runAs := func(s *service.Service, uid int) {
		s.Config.Set("worker.user", strconv.Itoa(uid)).Set("worker.group", strconv.Itoa(uid))
	}
	for i, s := range []*service.Service{s, other} {
		runAs(s, uid+1+i)
		s.Config.Set("worker.limits.processes", mostProcesses*3/4).Set("worker.fd_store", 2).Set("worker.notify_access", "group").Set("worker.env.LEFT", left).
			Set("worker.command", []string{programs.Hostile, "serves", s.Addr}).
			Set("drain.timeout", "500ms").Set("drain.kill_after", "10s")
		if err := s.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		baked(t, s)
	}
	masters := []int{s.PID(), other.PID()}
	as := func(way, release, bake string) {
		// Of one user they would have one limit of processes: what serves needs threads.
		runAs(s, uid+1-strings.Count(way, "storms"))
		s.Config.Set("worker.command", []string{programs.Hostile, way, s.Addr}).Set("worker.env.RELEASE", release).Set("rollout.bake", bake)
	}
	quiet := false
	if *full {
		calm := []func() time.Duration{slowestAnswer(t, s), slowestAnswer(t, other)}
		time.Sleep(quietTime)
		before := max(calm[0](), calm[1]())
		if quiet = before <= quietAnswer; !quiet {
			t.Logf("this machine is busy: the slowest answer took %s before anything was done, and no later one is judged by its time", before)
		}
	}
	slowest := []func() time.Duration{slowestAnswer(t, s), slowestAnswer(t, other)}
	processes := most(func() time.Duration { return time.Duration(processesIn(t, dir)) })
	t.Cleanup(func() { processes() })
	good, storms, stormy := 1, 0, true
	freshly(t, other, func() {
		freshly(t, s, func() {
			s.Config.Set("health.start.timeout", "10s") // it is given up before
			for begin := time.Now(); time.Since(begin) < time.Duration(times(60, 1))*time.Second; {
				as("storms", "candidate", "0s")
				if out := reload(t, s, api.ReloadRequest{}); out.Result != api.ResultFailed && out.Result != api.ResultRolledBack {
					t.Fatalf("it was taken: %+v", out)
				}
				as("storms-later", "active", "1m")
				out := reload(t, s, api.ReloadRequest{})
				switch {
				case out.Result == api.ResultDone:
					back(t, s, "")
				case cgroups || good == 1:
					t.Fatalf("it did not serve: %+v", out)
				default: // what earlier ones have left has all that their user may have, and nobody else's
					stormy = false
				}
				wait(t, s, "the version that was rolled back to be gone", func(st api.Status) bool { return len(st.Generations) == 1 })
				if stormy {
					storms += 2
				}
				good++
				as("serves", label(good), "200ms")
				next(t, s, good, "baked")
				next(t, other, good, "baked")
				from(t, s, label(good), 50)
			}
		})
	})
	for i, s := range []*service.Service{s, other} {
		took := slowest[i]()
		t.Logf("the slowest answer of master %d took %s", i+1, took)
		if quiet && took > answerSoon {
			t.Errorf("master %d took %s to answer, not %s", i+1, took, answerSoon)
		}
		if s.PID() != masters[i] {
			t.Error("it is another master")
		}
	}
	if n := processes(); *full && n < mostProcesses/2 { // in a second a busy machine does not come that far
		t.Errorf("there were %d processes: the bomb was none", n)
	}
	alive := living(t, left)
	if cgroups == (len(alive) > 0) {
		t.Errorf("%v are left", alive)
	}
	for _, pid := range alive {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	// What storms have left takes processes from the next ones of their user: some of those end
	// in the middle of it, of themselves; most do where nobody ends what is left.
	want := max(1, storms/4)
	if cgroups {
		want = storms - storms/4
	}
	for _, of := range []string{"the storm begins", "has turned", "too often", "without writing output"} {
		eventually(t, fmt.Sprintf("%d of %d storms to say %q", want, storms, of), func() bool { return strings.Count(s.Log(1_000_000), of) >= want })
	}
	for _, s := range []*service.Service{s, other} { // before its file system goes
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
	}
}

// lookEvery is how often that is; in full the time until an answer is judged.
func lookEvery() time.Duration { return time.Duration(times(10, 50)) * time.Millisecond }

// most looks at something again and again, until its end is asked for, and says what the
// most was.
func most(look func() time.Duration) (end func() time.Duration) {
	ended, found := make(chan struct{}), make(chan time.Duration, 1)
	go func() {
		var most time.Duration
		defer func() { found <- most }()
		for {
			most = max(most, look())
			select {
			case <-ended:
				return
			case <-time.After(lookEvery()):
			}
		}
	}()
	return sync.OnceValue(func() time.Duration { close(ended); return <-found })
}

// slowestAnswer is how long the status took.
func slowestAnswer(t *testing.T, s *service.Service) (end func() time.Duration) {
	end = most(func() time.Duration {
		ctx, cancel := context.WithTimeout(context.Background(), answersLimit)
		defer cancel()
		begin := time.Now()
		if _, err := s.API.Status(ctx); err != nil {
			t.Errorf("masterd does not answer: %v", err)
		}
		return time.Since(begin)
	})
	t.Cleanup(func() { end() })
	return end
}
