//go:build !linux

package probe

import (
	"context"
	"os/exec"
	"syscall"

	"github.com/masterd/masterd/pkg/master/proc"
)

// runGroup runs cmd in a process group of its own, and kills the whole group
// when ctx ends. Others that it left behind when it ended by itself stay.
func runGroup(ctx context.Context, cmd *exec.Cmd) (killed bool, err error) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := proc.StartCommand(cmd); err != nil {
		return false, err
	}
	done := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(done)
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	})
	err = cmd.Wait()
	if killed = !stop(); killed {
		<-done
	}
	return killed, err
}
