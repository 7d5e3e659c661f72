package sweep

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// service makes a control group that looks like a service's.
func service(t *testing.T) (dir string, g Group) {
	t.Helper()
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		if f := strings.Fields(line); len(f) > 2 && f[2] == "cgroup2" {
			dir = filepath.Join(f[1], fmt.Sprintf("sweep-test-%d-%d.service", os.Getpid(), time.Now().UnixNano()))
		}
	}
	if dir == "" {
		t.Skip("cgroup v2 is not mounted")
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Skip("a control group cannot be made: ", err)
	}
	t.Cleanup(func() {
		for range 500 {
			if err := os.Remove(dir); err == nil || errors.Is(err, os.ErrNotExist) {
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
		t.Errorf("%s is not empty", dir)
	})
	p := put(t, dir, "sleep", "1000")
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", p.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	if g, err = OwnGroup(string(text)); err != nil {
		t.Skip(err)
	}
	return dir, g
}

// put starts a process in the group; it is reaped when it ends.
func put(t *testing.T, dir string, args ...string) *exec.Cmd {
	t.Helper()
	group, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer group.Close()
	cmd := exec.Command(args[0], args[1:]...)
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(group.Fd())}
	if err := cmd.Start(); err != nil {
		t.Skip("no process can be started in a control group: ", err)
	}
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()
	t.Cleanup(func() { _ = cmd.Process.Kill(); <-ended })
	return cmd
}

func TestEndAsksThenKills(t *testing.T) {
	dir, g := service(t)
	deaf := put(t, dir, "sh", "-c", `trap "" TERM; echo; while :; do sleep 1000; done`)
	waitFor(t, func() bool { // it is deaf
		text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", deaf.Process.Pid))
		_, ignored, _ := strings.Cut(string(text), "SigIgn:\t")
		mask, _ := strconv.ParseUint(strings.SplitN(ignored, "\n", 2)[0], 16, 64)
		return mask&(1<<(syscall.SIGTERM-1)) != 0
	})
	left, err := Left(g)
	if err != nil || len(left) < 2 {
		t.Fatalf("%v, %v", left, err)
	}
	asked, killed, err := End(g, 200*time.Millisecond, nil)
	if err != nil || asked < 2 || killed < 1 {
		t.Errorf("asked %d, killed %d, %v", asked, killed, err)
	}
	if left, err := Left(g); len(left) > 0 || err != nil {
		t.Errorf("left: %v, %v", left, err)
	}
}

// Who was not there when somebody looked is nobody's to end.
func TestEndLeavesThoseWhoCameLater(t *testing.T) {
	dir, g := service(t)
	before, err := Left(g)
	if err != nil {
		t.Fatal(err)
	}
	later := put(t, dir, "sleep", "1000")
	if asked, killed, err := End(g, 10*time.Second, before); asked != 1 || killed != 0 || err != nil {
		t.Errorf("asked %d, killed %d, %v", asked, killed, err)
	}
	left, err := Left(g)
	if err != nil || len(left) != 1 || left[0] != later.Process.Pid {
		t.Errorf("left %v, %v; want %d", left, err, later.Process.Pid)
	}
}

// A process that was stopped hears of its end.
func TestEndWakesTheStopped(t *testing.T) {
	dir, g := service(t)
	p := put(t, dir, "sleep", "1000")
	if err := p.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	if _, killed, err := End(g, 30*time.Second, nil); killed != 0 || err != nil {
		t.Errorf("killed %d, %v", killed, err)
	}
}

// A group in which processes keep coming is emptied all the same.
func TestEndOfOneThatForks(t *testing.T) {
	dir, g := service(t)
	put(t, dir, "sh", "-c", `trap "" TERM; while :; do sleep 0.01 & done`)
	if _, _, err := End(g, 100*time.Millisecond, nil); err != nil {
		t.Error(err)
	}
}

func waitFor(t *testing.T, ok func() bool) {
	t.Helper()
	for range 1000 {
		if ok() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("it does not come")
}
