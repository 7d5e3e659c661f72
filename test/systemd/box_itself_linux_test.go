package systemd

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// A box leaves nothing behind, and what is done in it is not seen outside.
func TestBoxLeavesNothing(t *testing.T) {
	var cgroup, source string
	var pids []int
	t.Run("box", func(t *testing.T) {
		b := boot(t)
		cgroup = b.cgroup
		b.write("/etc/masterd/masterd.yaml", "service: demo\n")
		source = filepath.Base(cgroup) // a name that no other mount of the host has
		b.must("mount", "-t", "tmpfs", source, "/mnt")
		if !strings.Contains(b.must("cat", "/proc/mounts"), source) {
			t.Error("nothing was mounted in the box")
		}
		if strings.Contains(mounts(t), source) {
			t.Error("what is mounted in the box is mounted here too")
		}
		if out, code := b.run("touch", "/usr/masterd-was-here"); code == 0 {
			t.Errorf("the host's files can be written to: %s", out)
		}
		for _, p := range b.processes("/") {
			pids = append(pids, p.pid)
		}
		if len(pids) < 2 {
			t.Errorf("only %d processes", len(pids))
		}
		if out := b.must("ps", "-e", "-o", "pid="); len(strings.Fields(out)) > 20 {
			t.Errorf("the host's processes can be seen:\n%s", out)
		}
	})
	if cgroup == "" {
		t.Skip("no box")
	}
	if strings.Contains(mounts(t), source) {
		t.Errorf("a mount was left behind:\n%s", mounts(t))
	}
	if left, _ := filepath.Glob(cgroup); len(left) > 0 {
		t.Errorf("left behind: %s", left)
	}
	for _, pid := range pids {
		if _, err := os.Stat("/proc/" + strconv.Itoa(pid)); err == nil {
			t.Errorf("process %d (%s) is still there", pid, comm(pid))
		}
	}
}

func mounts(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
