package systemd

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// heldEnv has this program boot a box and hold it until it is killed.
const heldEnv = "MASTERD_TEST_BOX_HELD"

// A run that is killed takes its box with it; what it cannot take, an empty
// cgroup, goes with the next run.
func TestKilledRunLeavesNoBox(t *testing.T) {
	t.Parallel()
	if os.Getenv(heldEnv) != "" {
		b := boot(t)
		fmt.Println("box", b.pid, b.cgroup)
		select {}
	}
	if why := missing(); why != "" {
		cannot(t, why)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, "-test.run=^TestKilledRunLeavesNoBox$", "-test.timeout=1m")
	dir := t.TempDir() // what a killed run leaves there goes with this one
	cmd.Env = append(cmd.Environ(), heldEnv+"=1", "TMPDIR="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var pid int
	var cgroup string
	for s := bufio.NewScanner(out); pid == 0 && s.Scan(); {
		_, _ = fmt.Sscanf(s.Text(), "box %d %s", &pid, &cgroup)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Error(err)
	}
	_ = cmd.Wait() // killed
	if pid == 0 {
		cannot(t, "no box can be booted here")
	}
	defer removeCgroup(cgroup)
	late := time.Now().Add(goneTimeout)
	for syscall.Kill(pid, 0) == nil && time.Now().Before(late) {
		time.Sleep(poll)
	}
	if syscall.Kill(pid, 0) == nil {
		t.Fatalf("the systemd of a killed run is still there: %d", pid)
	}
	for strings.HasPrefix(cgroup, "/") && time.Now().Before(late) {
		sweepCgroups()
		if _, err := os.Stat(cgroup); os.IsNotExist(err) {
			return
		}
		time.Sleep(poll)
	}
	t.Errorf("%s was not swept", cgroup)
}
