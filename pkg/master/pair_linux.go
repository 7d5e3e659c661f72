package master

import (
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"

	"github.com/masterd/masterd/pkg/ipc"
	"github.com/masterd/masterd/pkg/master/listen"
)

// pair makes a connection of which one end is ours and the other a descriptor
// to be passed to a worker.
func pair() (net.Conn, int, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, -1, fmt.Errorf("making a pair of sockets for a check: %w", err)
	}
	f := os.NewFile(uintptr(fds[0]), "check")
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		_ = unix.Close(fds[1])
		return nil, -1, fmt.Errorf("making a pair of sockets for a check: %w", err)
	}
	return ipc.Guard(c), fds[1], nil
}

// closeFiles closes our copies of slots that were passed on.
func closeFiles(files []listen.File) {
	for _, f := range files {
		_ = unix.Close(f.FD)
	}
}

// closeFD closes a descriptor that nobody takes, without waiting for it.
func closeFD(fd int) { ipc.Discard(fd) }

// signals are the stop signals that may be configured, and KILL.
var signals = map[string]unix.Signal{
	"TERM": unix.SIGTERM, "INT": unix.SIGINT, "QUIT": unix.SIGQUIT, "HUP": unix.SIGHUP,
	"USR1": unix.SIGUSR1, "USR2": unix.SIGUSR2, "WINCH": unix.SIGWINCH, "KILL": unix.SIGKILL,
}
