package listen

import (
	"syscall"
	"testing"
)

// spawn runs a process that does nothing with these descriptors, to its end.
func spawn(t *testing.T, fds []uintptr) {
	t.Helper()
	pid, err := syscall.ForkExec("/bin/true", []string{"true"}, &syscall.ProcAttr{Files: fds})
	if err != nil {
		t.Fatal(err)
	}
	var status syscall.WaitStatus
	if _, err := syscall.Wait4(pid, &status, 0, nil); err != nil || status.ExitStatus() != 0 {
		t.Fatal(err, status)
	}
}
