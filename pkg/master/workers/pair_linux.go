package workers

import (
	"fmt"
	"net"

	"golang.org/x/sys/unix"

	"github.com/masterd/masterd/pkg/ipc/fdpass"
	"github.com/masterd/masterd/pkg/master/listen"
)

// pair makes a connection of which one end is ours and the other a descriptor
// to be passed to a worker.
func pair() (net.Conn, int, error) {
	ours, theirs, err := fdpass.StreamPair(unix.SOCK_NONBLOCK)
	if err != nil {
		return nil, -1, fmt.Errorf("making a pair of sockets for a check: %w", err)
	}
	return fdpass.Guard(ours), theirs, nil
}

// closeFiles closes our copies of slots that were passed on.
func closeFiles(files []listen.File) {
	for _, f := range files {
		_ = unix.Close(f.FD)
	}
}

// closeFD closes a descriptor that nobody takes, without waiting for it.
func closeFD(fd int) { fdpass.Discard(fd) }

// Signals are the stop signals that may be configured, and KILL.
var Signals = map[string]unix.Signal{
	"TERM": unix.SIGTERM, "INT": unix.SIGINT, "QUIT": unix.SIGQUIT, "HUP": unix.SIGHUP,
	"USR1": unix.SIGUSR1, "USR2": unix.SIGUSR2, "WINCH": unix.SIGWINCH, "KILL": unix.SIGKILL,
}
