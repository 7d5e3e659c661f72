package probe

import (
	"context"
	"os/exec"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/masterd/masterd/pkg/master/proc"
)

// runGroup runs cmd in a process group of its own, and kills the whole group
// when ctx ends, and when the command has ended and left others behind.
//
// The command is waited for without being reaped, so that its number stays its
// own: a group's number that is free again could be that of strangers.
func runGroup(ctx context.Context, cmd *exec.Cmd) (killed bool, err error) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := proc.StartCommand(cmd); err != nil {
		return false, err
	}
	pid := cmd.Process.Pid
	done := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(done)
		_ = unix.Kill(-pid, unix.SIGKILL)
	})
	for {
		var info unix.Siginfo
		if err := unix.Waitid(unix.P_PID, pid, &info, unix.WEXITED|unix.WNOWAIT, nil); err != unix.EINTR {
			break
		}
	}
	if killed = !stop(); killed {
		<-done
	}
	_ = unix.Kill(-pid, unix.SIGKILL)
	return killed, cmd.Wait()
}
