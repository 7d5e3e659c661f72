// Package proctest is for tests of what processes can do to each other.
package proctest

import (
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"testing"
)

// Numbered starts a process that gets this number, as the kernel gives numbers again once
// it has been through all of them. The process ends with the test. Only root may have the
// kernel begin there: for others, and where the number is somebody else's, the test is
// skipped.
func Numbered(t *testing.T, pid int) {
	t.Helper()
	for range 1000 {
		if err := os.WriteFile("/proc/sys/kernel/ns_last_pid", []byte(strconv.Itoa(pid-1)), 0); err != nil {
			t.Skipf("the kernel's next process number cannot be set: %v", err)
		}
		c := exec.Command("sleep", "60")
		c.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		end := func() { _ = c.Process.Kill(); _ = c.Wait() }
		if c.Process.Pid == pid {
			t.Cleanup(end)
			return
		}
		end()
	}
	t.Skipf("process number %d was always somebody else's", pid)
}
