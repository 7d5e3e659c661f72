package proc

import (
	"bufio"
	"fmt"
	"os"
	"slices"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/masterd/masterd/pkg/master/process"
)

// family starts a process with a child in its group.
func family(t *testing.T) (p *Process, child int, begun string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	p, err = Start(Spec{Program: self, Args: []string{self, "as-worker", "parent"}, Env: os.Environ(), Stdout: int(w.Fd())})
	w.Close()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.Signal(syscall.SIGKILL)
		<-p.Done()
		p.Close()
	})
	deaf := false // the child is
	for lines := bufio.NewScanner(r); (child == 0 || !deaf) && lines.Scan(); {
		_, _ = fmt.Sscanf(lines.Text(), "child %d", &child)
		deaf = deaf || lines.Text() == "here"
	}
	if begun, err = process.Begun(child); err != nil {
		t.Fatal(err)
	}
	return p, child, begun
}

func TestGroups(t *testing.T) {
	if all := process.Groups()[0]; len(all) > 0 {
		t.Errorf("group zero is nobody's, and has %d processes", len(all))
	}
	p, child, _ := family(t)
	if got := process.Group(p.PID()); len(got) != 2 || !slices.Contains(got, p.PID()) || !slices.Contains(got, child) {
		t.Errorf("%v, want %d and %d", got, p.PID(), child)
	}
}

// The score of a worker is its children's too.
func TestScoreOfTheGroup(t *testing.T) {
	p, child, _ := family(t)
	if err := p.SetOOMScoreAdj(321); err != nil {
		t.Fatal(err)
	}
	for _, pid := range []int{p.PID(), child} {
		if got, err := process.Score(pid); err != nil || got != 321 {
			t.Errorf("%d: %d, %v", pid, got, err)
		}
	}
}

// Another process of the group is the worker from now on: the end of the first
// takes nobody with it, the end of the other one everybody.
func TestMainProcessChanges(t *testing.T) {
	p, child, begun := family(t)
	main, err := Adopt(child, begun, p.PID())
	if err != nil {
		t.Fatal(err)
	}
	defer main.Close()
	p.Spare(true)
	if err := unix.Kill(p.PID(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-p.Done()
	select {
	case <-main.Done():
		t.Fatal("it went with the first")
	default:
	}
	if err := main.Signal(syscall.SIGTERM); err != nil { // it is deaf to this
		t.Fatal(err)
	}
	if err := main.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-main.Done()
	if err := main.Signal(syscall.SIGKILL); err != os.ErrProcessDone {
		t.Error(err)
	}

	p, child, begun = family(t)
	if main, err = Adopt(child, begun, p.PID()); err != nil {
		t.Fatal(err)
	}
	defer main.Close()
	p.Spare(true)
	if err := unix.Kill(child, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-main.Done()
	<-p.Done() // the group is ended with it

	if _, err := Adopt(os.Getpid(), "", 1); err == nil {
		t.Error("a process in another group was taken")
	}
}

// A main process that has given its place to another ends alone, too: the second change
// is like the first.
func TestMainProcessChangesTwice(t *testing.T) {
	for _, pidfd := range []bool{true, false} {
		p, child, begun := family(t)
		second := mustAdoptIn(t, child, begun, p.PID(), pidfd)
		p.Spare(true)
		second.Spare(true)
		if err := unix.Kill(child, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		ended(t, second)
		if gone, _ := p.gone(); gone {
			t.Error("the first, which is the worker again, went with the second")
		}
		p.Spare(false)
	}
}

// mustAdoptIn adopts a member of a group, with a pidfd or without.
func mustAdoptIn(t *testing.T, pid int, begun string, group int, pidfd bool) *Process {
	t.Helper()
	fd := -1
	if pidfd {
		var err error
		if fd, err = unix.PidfdOpen(pid, 0); err != nil {
			t.Skip(err)
		}
	}
	p, err := adopt(pid, fd, begun, group)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

// One's own child in a group that another leads can be signalled without a pidfd.
func TestOwnChildInAGroupWithoutPidfd(t *testing.T) {
	leader := mustStart(t, spec(t, "wait"))
	pid, err := syscall.ForkExec("/bin/sleep", []string{"sleep", "100"}, &syscall.ProcAttr{Sys: &syscall.SysProcAttr{Setpgid: true}})
	if err != nil {
		t.Fatal(err)
	}
	first := watch(pid, -1) // leads a group of this session
	defer first.Close()
	member, err := syscall.ForkExec("/bin/sleep", []string{"sleep", "100"}, &syscall.ProcAttr{Sys: &syscall.SysProcAttr{Setpgid: true, Pgid: pid}})
	if err != nil {
		t.Fatal(err)
	}
	begun, err := process.Begun(member)
	if err != nil {
		t.Fatal(err)
	}
	p := mustAdoptIn(t, member, begun, pid, false)
	if err := p.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	ended(t, p)
	ended(t, first)
	if gone, _ := leader.gone(); gone {
		t.Error("another group was killed")
	}
}
