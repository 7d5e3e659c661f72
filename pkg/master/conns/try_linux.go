package conns

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// TryTake says why connections of workers that run as this user cannot be closed one at a
// time, as far as that can be known before there are any; nil: nothing keeps the master from it.
func TryTake(uid int) error {
	own, err := unix.PidfdOpen(os.Getpid(), 0)
	if err == nil {
		defer unix.Close(own)
		var fd int
		if fd, err = unix.PidfdGetfd(own, own, 0); err == nil {
			_ = unix.Close(fd)
		}
	}
	if err != nil {
		return fmt.Errorf("pidfd_getfd is not possible here, by the kernel (Linux 5.6) or a filter of system calls: %w", err)
	}
	h, caps := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, [2]unix.CapUserData{}
	if err := unix.Capget(&h, &caps[0]); err == nil && caps[0].Effective&(1<<unix.CAP_SYS_PTRACE) != 0 {
		return nil
	}
	if uid != os.Geteuid() {
		return errors.New("workers run as another user, and the master has no CAP_SYS_PTRACE")
	}
	scope, _ := os.ReadFile("/proc/sys/kernel/yama/ptrace_scope")
	if s := strings.TrimSpace(string(scope)); s == "2" || s == "3" { // 1 leaves a parent what it needs
		return fmt.Errorf("the kernel forbids it (kernel.yama.ptrace_scope = %s), and the master has no CAP_SYS_PTRACE", s)
	}
	return nil
}
