package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/test/service"
)

// What programs have beside their listeners, and what two versions do to each other by that.

// A port that is no listener's and that both versions bind cannot be: the new one is
// refused, and told which line is missing. With the line it works.
func TestSidePort(t *testing.T) {
	besideOthers(t)
	for _, way := range []string{"plain", "erased", "erased-no-cgroup"} {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			s := unprepared(t)
			if way == "erased-no-cgroup" {
				withoutCgroups(t, s)
			}
			if way != "plain" { // whose it is cannot be read from its environment
				s.Config.Set("worker.env.ERASES", "1")
			}
			sidePort(t, s)
		})
	}
}

func sidePort(t *testing.T, s *service.Service) {
	side := freePort(t)
	s.Config.Set("worker.command", []string{programs.Hostile, "side-port", s.Addr, side})
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	baked(t, s)
	line := fmt.Sprintf("{name: side-%s, address: %q}", port(side)[1:], "tcp://"+side)
	saysBeside(t, s, "listens on tcp://"+side+" beside its listeners", line)
	freshly(t, s, func() {
		s.Config.Set("worker.env.RELEASE", "v2")
		out := reload(t, s, api.ReloadRequest{Label: "v2"})
		if out.Result != api.ResultFailed || !strings.Contains(out.Reason, line) || !strings.Contains(out.Reason, "hostile side-port") {
			t.Errorf("%+v does not name the holder and %s", out, line)
		}
	})
	s.Config.Set("listeners", listeners("http", "tcp://"+s.Addr, "side", "tcp://"+side))
	out := reload(t, s, api.ReloadRequest{Label: "v3"})
	if out.Result == api.ResultDone { // what runs has the port until it has gone
		t.Fatalf("the running version has the port: %+v", out)
	}
	if !strings.Contains(out.Reason, side) || !strings.Contains(out.Reason, "worker 1 of this service") ||
		!strings.Contains(out.Reason, "Restart the service once, with this configuration (systemctl restart UNIT") {
		t.Errorf("%+v does not say that it is the worker's, and what to type", out)
	}
	if out, code := s.CLI(t.Context(), "check"); code != 2 || !strings.Contains(out, "worker 1 of this service; it has bound that by itself") {
		t.Errorf("check, %d: %s", code, out)
	}
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	baked(t, s)
	freshly(t, s, func() { next(t, s, 4, "baked") })
	if said := strings.Join(status(t, s).Reasons, "\n"); said != "" {
		t.Errorf("all that it has is a listener, and it is said that %s", said)
	}
}

// saysBeside waits until the status, and the log, say all of what a worker has beside its
// listeners. The service serves all the same.
func saysBeside(t *testing.T, s *service.Service, what ...string) {
	t.Helper()
	wait(t, s, "to say "+strings.Join(what, ", "), func(st api.Status) bool {
		said := strings.Join(st.Reasons, "\n")
		for _, text := range what {
			if !strings.Contains(said, text) {
				return false
			}
		}
		return st.State == "serving"
	})
	for _, text := range what {
		if quoted := strings.Trim(fmt.Sprintf("%q", text), `"`); !strings.Contains(s.Log(400), quoted) {
			t.Errorf("the log does not say %q:\n%s", text, s.Log(400))
		}
	}
}

// A port that both versions bind with SO_REUSEPORT is answered by either while both run: that is
// seen, and said, and a reload goes as well as without. The workers of one version may share it.
func TestSharedSidePort(t *testing.T) {
	besideOthers(t)
	s := unprepared(t)
	side := freePort(t)
	s.Config.Set("worker.command", []string{programs.Hostile, "side-port-shared", s.Addr, side}).Set("rollout.bake", "1m").
		Set("worker.processes", 2)
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	saysBeside(t, s, "listens on tcp://"+side+" beside its listeners")
	if said := strings.Join(status(t, s).Reasons, "\n") + s.Log(400); strings.Contains(said, "SO_REUSEPORT") {
		t.Errorf("of workers of one version it is said that %s", said)
	}
	freshly(t, s, func() { next(t, s, 2, "serving") })
	saysBeside(t, s, "it binds "+side+" with SO_REUSEPORT, which pid ", "while both versions run, either of them answers there",
		fmt.Sprintf("{name: side-%s, address: %q}", port(side)[1:], "tcp://"+side))
}

// An older version that removes when it ends what the newer one has made in its place: told at
// the first start, and when it has happened.
func TestPathsThatAnOlderVersionTakesAlong(t *testing.T) {
	besideOthers(t)
	for _, kind := range []string{"unmodified", "socket-activation"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			s := unprepared(t)
			socket, pidFile := filepath.Join(s.Dir, "side.sock"), filepath.Join(s.Dir, "side.pid")
			s.Config.Set("worker.command", []string{programs.Hostile, "side-paths", s.Addr, socket, pidFile}).Set("worker.kind", kind)
			if err := s.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			baked(t, s)
			saysBeside(t, s, "has bound "+socket, "has written "+pidFile)
			next(t, s, 2, "baked")
			saysBeside(t, s, socket+" is gone: worker 2 of generation 2 (v2) has made it, and worker 1 of generation 1", pidFile+" is gone: ")
			// What is named by the worker is no other's.
			s.Config.Set("worker.command", []string{programs.Hostile, "side-paths", s.Addr, socket + "-{worker}", "{worker}." + filepath.Base(pidFile)}).
				Set("worker.directory", s.Dir)
			next(t, s, 3, "baked")
			next(t, s, 4, "baked")
			eventually(t, "both to be made", func() bool {
				_, err1 := os.Stat(socket + "-4")
				_, err2 := os.Stat(filepath.Join(s.Dir, "4."+filepath.Base(pidFile)))
				return err1 == nil && err2 == nil
			})
			if said := strings.Join(status(t, s).Reasons, "\n"); said != "" {
				t.Errorf("of what is named by the worker it is said that %s", said)
			}
			s.Config.Set("worker.command", []string{programs.Hostile, "side-paths", s.Addr, socket, pidFile})
			next(t, s, 5, "baked")
			next(t, s, 6, "baked")
			saysBeside(t, s, socket+" is gone: worker 6 of generation 6 (v6) has made it, and worker 5 of generation 5")
			for _, path := range []string{socket, pidFile} { // somebody has made them again
				if err := os.WriteFile(path, nil, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			wait(t, s, "to say no more that they are gone", func(st api.Status) bool {
				return !strings.Contains(strings.Join(st.Reasons, "\n"), " is gone: ")
			})
		})
	}
}

// A program that runs itself again by its path runs what is on disk by then. It is said as soon
// as that is another one, and of no version for which it is not.
func TestProgramsThatRunThemselvesAgain(t *testing.T) {
	besideOthers(t)
	s := unprepared(t)
	program, when := filepath.Join(s.Dir, "app"), filepath.Join(s.Dir, "when")
	deploy := func(more string) {
		t.Helper()
		text, err := os.ReadFile(programs.Hostile)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(program+".new", append(text, more...), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(program+".new", program); err != nil {
			t.Fatal(err)
		}
	}
	deploy("")
	s.Config.Set("worker.command", []string{program, "runs-itself", s.Addr, when})
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	baked(t, s)
	deploy("v2")
	says := func(st api.Status) bool {
		return strings.Contains(strings.Join(st.Reasons, "\n"), " of worker 1 runs "+program+" as it is on disk now, and not ")
	}
	if st := status(t, s); says(st) {
		t.Errorf("it has not run itself again, and it is said: %q", st.Reasons)
	}
	if err := os.WriteFile(when, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	wait(t, s, "to say that a process runs what is on disk", func(st api.Status) bool { return says(st) && st.State == "serving" })
	next(t, s, 2, "baked")
	wait(t, s, "to say it no more: all is one version", func(st api.Status) bool {
		return len(st.Generations) == 1 && !strings.Contains(strings.Join(st.Reasons, "\n"), "on disk now")
	})
}
