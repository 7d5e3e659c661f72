package master

import (
	"os/exec"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/masterd/masterd/pkg/ipc"
	"github.com/masterd/masterd/pkg/master/proc"
	"github.com/masterd/masterd/pkg/master/process"
	"github.com/masterd/masterd/pkg/master/workers"
)

// leftContainment has a worker of which nothing is known but its cgroup.
type leftContainment struct {
	noContain
	pid int
}

func (c leftContainment) Left() []uint64         { return []uint64{7} }
func (c leftContainment) Processes(uint64) []int { return []int{c.pid} }

// A worker that is known by its cgroup alone is sent the stop signal like any other.
func TestUnknownWorkerOfACgroupIsAskedToEnd(t *testing.T) {
	cmd := exec.Command("sleep", "1000")
	cmd.Env, cmd.SysProcAttr = []string{}, &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Process.Kill()
	m := newWorld(t).master(testConfig())
	m.open.contain = leftContainment{pid: cmd.Process.Pid}
	m.wire()
	var found workers.Process
	m.workers.System.Adopt = func(pid int, begun string, group int) (p workers.Process, err error) {
		found, err = proc.Adopt(pid, begun, group)
		return found, err
	}
	m.takeover.Adopt()
	if m.takeover.Deserted() {
		t.Fatal("nobody was found")
	}
	m.takeover.EndUnknown()
	<-found.Done()
	if how := found.Exit(); found.PID() != cmd.Process.Pid || how.Signal != syscall.SIGTERM {
		t.Errorf("process %d ended with %+v", found.PID(), how)
	}
	if !m.loop.Wait(tasksTimeout) {
		t.Error("its end was not noticed")
	}
}

// stray is a process that heeds no signal but KILL.
type stray struct {
	workers.Process
	done   chan struct{}
	killed time.Time
}

func (s *stray) Done() <-chan struct{} { return s.done }
func (s *stray) Exit() proc.Exit       { return proc.Exit{} }
func (s *stray) Close()                {}
func (s *stray) Signal(sig syscall.Signal) error {
	if sig == syscall.SIGKILL {
		s.killed = time.Now()
		close(s.done)
	}
	return nil
}

// Who is not known may finish what it has like any other: for drain.timeout, which 0
// makes endless.
func TestStrangersHaveTheTimeOfADrain(t *testing.T) {
	for _, limit := range []time.Duration{0, time.Minute} {
		cfg := testConfig()
		cfg.Drain.Timeout = limit
		s := &stray{done: make(chan struct{})}
		var began time.Time
		run(t, cfg, func(w *world, m *Master) {
			s.done = make(chan struct{}) // of the bubble
			until(t, "v1 serves", serves(w, "v1"))
			m.loop.Call(func() {
				began = time.Now()
				m.takeover.System.Find = func(string, func([]string) bool) []process.Found {
					return []process.Found{{PID: 99, Leads: true,
						Env: []string{ipc.EnvRuntimeDir + "=" + cfg.RuntimeDir, ipc.EnvWorker + "=99"}}}
				}
				m.workers.System.Adopt = func(int, string, int) (workers.Process, error) { return s, nil }
				m.takeover.Adopt()
				m.takeover.EndUnknown()
			})
			time.Sleep(time.Hour)
			synctest.Wait()
			switch {
			case limit == 0 && !s.killed.IsZero():
				t.Errorf("it was killed after %s, and drain.timeout is 0", s.killed.Sub(began))
			case limit > 0 && s.killed.Sub(began) != limit+cfg.Drain.KillAfter:
				t.Errorf("it was killed after %s", s.killed.Sub(began))
			}
		})
		if limit == 0 && s.killed.IsZero() {
			t.Error("it outlives the service")
		}
	}
}
