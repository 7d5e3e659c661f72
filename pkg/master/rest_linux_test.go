package master

import (
	"os/exec"
	"syscall"
	"testing"

	"github.com/masterd/masterd/pkg/master/proc"
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
	defer cmd.Wait()
	defer cmd.Process.Kill()
	m := newWorld(t).master(testConfig())
	m.contain = leftContainment{pid: cmd.Process.Pid}
	m.system.adopt = func(pid int, begun string, group int) (process, error) { return proc.Adopt(pid, begun, group) }
	m.unknownLeft(map[uint64][]proc.Found{})
	if len(m.unknown) != 1 || len(m.unknown[0].leaders) != 1 || m.unknown[0].leaders[0].PID() != cmd.Process.Pid {
		t.Fatalf("%+v", m.unknown)
	}
	m.unknown[0].leaders[0].Close()
}
