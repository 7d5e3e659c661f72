package e2e

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
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
	"github.com/masterd/masterd/test/service/servicetest"
)

// mixed is what is promised to go on whatever becomes of the master: kept and
// new connections, POST.
func mixed(t *testing.T, s *service.Service) (end func() *load.Result) { return strict(t, s, 16) }

func strict(t *testing.T, s *service.Service, kept int) (end func() *load.Result) {
	ctx, cancel := context.WithCancel(context.Background())
	l := load.Start(ctx, load.Plan{Addr: s.Addr, Rate: loadRate(), Kept: kept, Fresh: 16, Path: "/upload", Body: 512, Sources: 50})
	end = sync.OnceValue(func() *load.Result { cancel(); return l.Wait() })
	t.Cleanup(func() { end() })
	return end
}

// eachKind has a test walk through every kind of worker, each under the strictest
// client that its programs can bear: those that were not prepared have no way to
// leave without closing connections that clients keep and use.
func eachKind(t *testing.T, story func(t *testing.T, s *service.Service, n int, begin func() func() *load.Result)) {
	for _, kind := range []string{"sdk", "socket-activation", "unmodified"} {
		t.Run(kind, func(t *testing.T) {
			s := newService(t)
			kept := 16
			if kind != "sdk" {
				kept = 0
				s.Config.Set("worker.kind", kind)
			}
			switch kind {
			case "socket-activation":
				s.Config.Set("worker.command", []string{programs.Hostile, "serves", s.Addr}) // the one that is not
			case "unmodified":
				s.Config.Set("worker.command", []string{programs.Plain, s.Addr})
			}
			n := times(50, 2)
			if kind == "sdk" {
				n = times(50, 4)
			}
			if err := s.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			story(t, s, n, func() func() *load.Result { return strict(t, s, kept) })
		})
	}
}

// pidsByWorker are a service's workers.
func pidsByWorker(st api.Status) map[uint64]int {
	all := map[uint64]int{}
	for _, g := range st.Generations {
		for _, w := range g.Workers {
			all[w.ID] = w.PID
		}
	}
	return all
}

// The master is killed at random moments, every second time while a rollout is
// under way. Nobody who asks for anything but the master notices.
func TestMasterIsKilled(t *testing.T) { besideOthers(t); eachKind(t, killedMasters) }

func killedMasters(t *testing.T, s *service.Service, n int, begin func() func() *load.Result) {
	next(t, s, 1, "baked")
	end := begin()
	label := 1
	var without []time.Duration
	for i := range n {
		if i%2 == 1 {
			label++
			s.Config.Set("rollout.bake", "300ms")
			s.Config.Set("worker.env", map[string]string{"DEMO_LABEL": fmt.Sprint(label)})
			if err := s.Write(); err != nil {
				t.Fatal(err)
			}
			cmd := s.Command(t.Context(), "reload", "--label", fmt.Sprintf("v%d", label))
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			go func() { _ = cmd.Wait() }()
		}
		time.Sleep(time.Duration(rand.IntN(500)) * time.Millisecond)
		s.Kill()
		begun := time.Now()
		if err := s.Start(t.Context()); err != nil {
			t.Fatalf("after kill %d: %v", i+1, err)
		}
		without = append(without, time.Since(begun))
	}
	// It is a master as any other: what is left over settles, a reload works.
	alone(t, s)
	next(t, s, 1000, "baked")
	alone(t, s)
	res := end()
	t.Logf("%d kills; from a kill until the next master serves %s (median, its start included):\n%s", n, median(without), res)
	if res.Failed() > 0 {
		t.Errorf("%d requests failed", res.Failed())
	}
	st, err := s.API.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	running := s.Processes()
	want := []int{st.Master.Keeper}
	for _, pid := range pidsByWorker(st) {
		want = append(want, pid)
	}
	slices.Sort(running)
	slices.Sort(want)
	if !slices.Equal(running, want) {
		t.Errorf("processes %v run, and status tells of %v", running, want)
	}
}

// The master and its keeper are killed at once, while two generations of two
// workers are there: nobody but the workers has the sockets any more, and the
// kernel's order of them is another one than before.
func TestMasterAndKeeperAreKilled(t *testing.T) {
	besideOthers(t)
	s := started(t, nil)
	s.Config.Set("worker.processes", 2)
	next(t, s, 1, "baked")
	n := times(20, 2) // one before and one after a way back
	end := mixed(t, s)
	for i := range n {
		s.Config.Set("rollout.bake", "1m")
		next(t, s, 2+i, "serving")
		st, err := s.API.Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		s.KillBoth(st.Master.Keeper)
		if err := s.Start(t.Context()); err != nil {
			t.Fatalf("after kill %d: %v", i+1, err)
		}
		if i%2 == 1 { // at once, before the workers are back: the last that was baked is parked, and still good
			back(t, s, "")
			serves(t, s, "v1")
			continue
		}
		for range 100 {
			if err := fresh(s, label(2+i)); err != nil {
				t.Fatal(err)
			}
		}
	}
	s.Config.Set("rollout.bake", "300ms")
	next(t, s, 1000, "baked")
	alone(t, s)
	res := end()
	t.Logf("%d kills of both:\n%s", n, res)
	if res.Failed() > 0 {
		t.Errorf("%d requests failed", res.Failed())
	}
}

// The keeper is killed, and once another one holds as much as that did, the master: all
// that is held can be had from either.
func TestKeeperIsKilledAndThenTheMaster(t *testing.T) { besideOthers(t); eachKind(t, killedKeepers) }

func killedKeepers(t *testing.T, s *service.Service, n int, begin func() func() *load.Result) {
	next(t, s, 1, "baked")
	end := begin()
	for i := range n {
		if i%2 == 1 { // slots change hands, and workers are heard on other sockets
			next(t, s, 1+i, "baked")
		}
		alone(t, s)
		st := status(t, s)
		before, had := pidsByWorker(st), openBy(t, st.Master.Keeper)
		if err := syscall.Kill(st.Master.Keeper, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		eventually(t, "another keeper to hold as much", func() bool {
			now := status(t, s).Master
			if now.Keeper == st.Master.Keeper || now.Keeper == 0 {
				return false
			}
			ours, its := openBy(t, now.PID), openBy(t, now.Keeper)
			for file := range had { // but for what the master has let go since
				if ours[file] && !its[file] {
					return false
				}
			}
			return true
		})
		kept := status(t, s).Master.Keeper
		s.Kill()
		if err := s.Start(t.Context()); err != nil {
			t.Fatalf("after kill %d: %v", i+1, err)
		}
		if now := status(t, s); now.Master.Keeper != kept || !maps.Equal(pidsByWorker(now), before) {
			t.Errorf("keeper %d and workers %v, and before %d and %v", now.Master.Keeper, pidsByWorker(now), kept, before)
		}
	}
	next(t, s, 1000, "baked")
	alone(t, s)
	if res := end(); res.Failed() > 0 {
		t.Errorf("%d requests failed:\n%s", res.Failed(), res)
	}
}

// openBy are the files that a process has open, as the kernel names them; none if it is gone.
func openBy(t *testing.T, pid int) map[string]bool {
	t.Helper()
	links, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]bool{}
	for _, link := range links {
		if file, err := os.Readlink(link); err == nil {
			all[file] = true
		}
	}
	return all
}

// A keeper that could not be had when the master started is had as soon as it can be,
// and what it is given then is enough for the next master.
func TestKeeperComesLater(t *testing.T) {
	besideOthers(t)
	s := newService(t)
	run := filepath.Join(s.Dir, "run")
	inTheWay := filepath.Join(run, "keeper.sock")
	if err := errors.Join(os.Mkdir(run, 0o755), os.Mkdir(inTheWay, 0o755)); err != nil {
		t.Fatal(err)
	}
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	st, err := s.API.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if st.Master.Keeper != 0 {
		t.Fatalf("keeper %d", st.Master.Keeper)
	}
	before := pidsByWorker(st)
	if err := os.Remove(inTheWay); err != nil {
		t.Fatal(err)
	}
	if err := s.Wait(t.Context(), patience, "a keeper", func(st api.Status) bool { return st.Master.Keeper != 0 }); err != nil {
		t.Fatal(err)
	}
	s.Kill()
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if st, err = s.API.Status(t.Context()); err != nil {
		t.Fatal(err)
	}
	if after := pidsByWorker(st); !maps.Equal(after, before) || st.Master.Keeper == 0 {
		t.Errorf("workers %v, keeper %d, and before %v", after, st.Master.Keeper, before)
	}
}

// alone waits until only the active generation is there.
func alone(t *testing.T, s *service.Service) {
	t.Helper()
	if err := s.Wait(t.Context(), patience, "one generation", func(st api.Status) bool {
		return st.State == "serving" && st.Rollout == nil && len(st.Generations) == 1
	}); err != nil {
		t.Fatal(err)
	}
}

// While no master is there the steering is as it was: new connections go to the
// active generation alone, not to the one that is parked beside it.
func TestSteeringOutlivesTheMaster(t *testing.T) {
	besideOthers(t)
	eachKind(t, func(t *testing.T, s *service.Service, _ int, _ func() func() *load.Result) { steeringAlone(t, s) })
}

func steeringAlone(t *testing.T, s *service.Service) {
	next(t, s, 1, "baked")
	s.Config.Set("rollout.bake", "1m")
	next(t, s, 2, "serving")
	s.Kill()
	for range times(1000, 50) {
		if err := fresh(s, "v2"); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	for range times(1000, 50) {
		if err := fresh(s, "v2"); err != nil {
			t.Fatal(err)
		}
	}
	// The bake goes on: what came before is one step away. Until its worker has heard that it is
	// active again it may still pass on to the other what it has just accepted.
	back(t, s, "")
	var err error
	for end := time.Now().Add(patience); time.Now().Before(end); {
		if err = fresh(s, "v1"); err == nil {
			return
		}
	}
	t.Fatal(err)
}

// fresh asks on a new connection.
func fresh(s *service.Service, version string) error {
	c, err := newIdle(s.Addr)
	if err != nil {
		return err
	}
	defer c.conn.Close()
	return c.ask(version)
}

// One masterd after the other takes over.
func TestUpgrades(t *testing.T) { besideOthers(t); eachKind(t, upgrades) }

func upgrades(t *testing.T, s *service.Service, n int, begin func() func() *load.Result) {
	next(t, s, 1, "baked")
	end := begin()
	before, err := s.API.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	gaps := absences(t, s)
	var took []time.Duration
	for i := range n {
		begun := time.Now()
		if out, code := s.CLI(t.Context(), "upgrade"); code != 0 {
			t.Fatalf("upgrade %d ended with %d: %s", i+1, code, out)
		}
		took = append(took, time.Since(begun))
		if i%5 == 0 {
			next(t, s, i+2, "baked")
		}
	}
	res := end()
	after, err := s.API.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d upgrades, %s each (median, the wait for a proof included), %s without a master that answers (median):\n%s", n, median(took), median(gaps()), res)
	if res.Failed() > 0 {
		t.Errorf("%d requests failed", res.Failed())
	}
	if after.Master.PID != before.Master.PID || after.Master.Since.Equal(before.Master.Since) {
		t.Errorf("master %+v before, %+v after", before.Master, after.Master)
	}
}

// absences asks the master again and again; the result is for how long nobody
// answered, each time.
func absences(t *testing.T, s *service.Service) (end func() []time.Duration) {
	t.Helper()
	askAgain := time.Duration(times(5, 100)) * time.Millisecond // how long it takes is of interest in full
	var gaps []time.Duration
	done := make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		defer close(done)
		last, away := time.Now(), false
		for ctx.Err() == nil {
			if _, err := s.API.Status(ctx); err != nil {
				away = true
				time.Sleep(askAgain)
				continue
			}
			if away {
				gaps = append(gaps, time.Since(last))
			}
			last, away = time.Now(), false
			time.Sleep(askAgain)
		}
	}()
	return func() []time.Duration {
		cancel()
		<-done
		return gaps
	}
}

// A broken binary never costs anything: it is refused, or the one before is back.
func TestBrokenUpgrades(t *testing.T) {
	besideOthers(t)
	s := started(t, nil)
	next(t, s, 1, "baked")
	real := s.Masterd
	script := func(name, text string, mode os.FileMode) string {
		path := s.Dir + "/" + name
		if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text+"\n"), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for name, binary := range map[string]string{
		"not executable":        script("not-executable", "exit 0", 0o644),
		"exits":                 script("exits", "exit 3", 0o755),
		"hangs":                 script("hangs", "exec sleep 60", 0o755),
		"cannot read the state": script("no-state", "echo 'read state: written by a newer masterd'; exit 1", 0o755),
		"crashes after 1 s":     script("crashes", fmt.Sprintf("[ \"$1\" = prove ] && exec %s \"$@\"\nsleep 1\nexit 1", real), 0o755),
		"hangs afterwards":      script("hangs-later", fmt.Sprintf("[ \"$1\" = prove ] && exec %s \"$@\"\nexec sleep 60", real), 0o755),
	} {
		t.Run(name, func(t *testing.T) {
			end := mixed(t, s)
			out, code := s.CLI(t.Context(), "upgrade", "--binary", binary)
			t.Logf("exit %d: %s", code, out)
			if code == 0 {
				t.Error("it was taken")
			}
			if err := s.Wait(t.Context(), patience, "a master", func(st api.Status) bool { return st.State != "" }); err != nil {
				t.Fatal(err)
			}
			next(t, s, rand.IntN(1000)+10, "baked")
			if res := end(); res.Failed() > 0 {
				t.Errorf("%d requests failed:\n%s", res.Failed(), res)
			}
		})
	}
}

// masterdThatDies is built once.
var masterdThatDies = sync.OnceValues(func() (path string, err error) {
	path = filepath.Join(programsDir, "masterd-dies")
	build := exec.Command("go", "build", "-tags", "masterd_dies", "-o", path, "github.com/masterd/masterd/cmd/masterd")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w\n%s", err, out)
	}
	return path, nil
})

// dying is a service whose master dies when a file says so.
func dying(t *testing.T) (s *service.Service, when string) {
	t.Helper()
	if _, err := exec.LookPath("go"); err != nil {
		t.Skip("it needs a masterd that dies when it is told to, which is built here: ", err)
	}
	program, err := masterdThatDies()
	if err != nil {
		t.Fatal(err)
	}
	when = filepath.Join(servicetest.ShortDir(t), "when")
	s = newService(t)
	s.Masterd = program
	s.Argv = []string{"env", "MASTERD_DIES_AT=" + when, s.Masterd, "run", "--config", s.File}
	return s, when
}

// The master dies before each command of a rollout in turn, from the first to the
// last: each time the next one settles it, and nobody who asks notices.
func TestMasterDiesAtEachCommand(t *testing.T) {
	besideOthers(t)
	s, when := dying(t)
	s.Config.Set("rollout.bake", "100ms").Set("worker.processes", 2)
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	next(t, s, 1, "baked")
	end := mixed(t, s)
	forward, back := 0, 0
	for n := rand.IntN(times(1, 4)); ; n += times(1, 4) {
		alone(t, s)
		if err := os.WriteFile(when, []byte(fmt.Sprint(n)), 0o600); err != nil {
			t.Fatal(err)
		}
		version := fmt.Sprintf("after-%d", n)
		s.Config.Set("worker.env.RELEASE", version)
		if err := s.Write(); err != nil {
			t.Fatal(err)
		}
		_, _ = s.API.Reload(t.Context(), api.ReloadRequest{Label: version, Until: "baked"}, nil)
		if !diesBeforeItIsDone(t, s, when) { // all commands are walked through
			break
		}
		ended(t, s)
		if err := s.Start(t.Context()); err != nil {
			t.Fatalf("after a death before command %d: %v", n, err)
		}
		alone(t, s)
		st, err := s.API.Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if st.Active.Version.Label == version {
			forward++
		} else {
			back++
		}
		if n > 500 {
			t.Fatal("a rollout without end")
		}
	}
	next(t, s, 1000, "baked")
	alone(t, s)
	res := end()
	t.Logf("%d deaths, %d rollouts came into force and %d did not:\n%s", forward+back, forward, back, res)
	if forward == 0 || back == 0 {
		t.Error("it did not die in both halves of a rollout")
	}
	if log := s.Log(100_000); strings.Contains(log, "cannot be read any more") {
		t.Error("a master found that live.json names a configuration that is not there")
	}
	if res.Failed() > 0 {
		t.Errorf("%d requests failed", res.Failed())
	}
}

// diesBeforeItIsDone waits until the master has come to the command that it dies
// before, or the old generation is gone and nothing is left to do.
func diesBeforeItIsDone(t *testing.T, s *service.Service, when string) bool {
	t.Helper()
	for {
		left, err := os.ReadFile(when)
		if err != nil {
			t.Fatal(err)
		}
		if string(left) == "-1" {
			return true
		}
		st, err := s.API.Status(t.Context())
		if err == nil && st.State == "serving" && st.Rollout == nil && len(st.Generations) == 1 {
			// It may have come to one more command since, until it is told to live.
			if err := os.WriteFile(when, []byte("-1"), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := s.API.Status(t.Context())
			return err != nil
		}
		time.Sleep(poll)
	}
}
