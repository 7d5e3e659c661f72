package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/pkg/ipc/fdpass"
)

// reopenLogs has a master open its log files anew, as after a rotation. A master in another
// PID namespace has another number here than it says: the signal is sent only where the
// kernel says the same as the master.
func reopenLogs(ctx context.Context, c *api.Client) (pid int, err error) {
	st, err := c.Status(ctx)
	if err != nil {
		return 0, err
	}
	pid = st.Master.PID
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", c.Socket())
	if err != nil {
		return 0, fmt.Errorf("asking which process the master is: %w", err)
	}
	defer conn.Close() // not before the signal: as long as it lives nobody else has its number
	cred, err := fdpass.Peer(conn.(*net.UnixConn))
	switch {
	case err != nil:
		return 0, fmt.Errorf("asking which process the master is: %w", err)
	case pid < 1 || int(cred.Pid) != pid:
		return 0, fmt.Errorf("the master is process %d where it runs, and not here; type there: kill -USR1 %d", pid, pid)
	}
	if err := syscall.Kill(pid, syscall.SIGUSR1); errors.Is(err, syscall.EPERM) {
		return 0, fmt.Errorf("only root and the master's own user may have process %d open its log files anew", pid)
	} else if err != nil {
		return 0, fmt.Errorf("having process %d open its log files anew: %w", pid, err)
	}
	return pid, nil
}
