package conns

import (
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// What is said before there is a worker is what is so when there is one.
func TestTryTake(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	other := exec.Command("/bin/sleep", "60")
	other.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = other.Process.Kill(); _ = other.Wait() })
	take := func() error {
		fd, err := copyOf(holder{other.Process.Pid, 0})
		if err == nil {
			_ = unix.Close(fd)
		}
		return err
	}
	if try, is := TryTake(65534), take(); (try == nil) != (is == nil) {
		t.Errorf("%v, and it is %v", try, is)
	}
	runtime.LockOSThread() // it ends with the test
	h, caps := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, [2]unix.CapUserData{}
	if err := unix.Capget(&h, &caps[0]); err != nil {
		t.Fatal(err)
	}
	caps[0].Effective &^= 1 << unix.CAP_SYS_PTRACE
	if err := unix.Capset(&h, &caps[0]); err != nil {
		t.Fatal(err)
	}
	if try, is := TryTake(65534), take(); try == nil || is == nil || !strings.Contains(try.Error(), "CAP_SYS_PTRACE") {
		t.Errorf("without CAP_SYS_PTRACE: %v, and it is %v", try, is)
	}
	if err := TryTake(os.Geteuid()); err != nil && !strings.Contains(err.Error(), "yama") {
		t.Errorf("of workers of the same user: %v", err)
	}
}
