package notify

import (
	"errors"

	"golang.org/x/sys/unix"

	"github.com/masterd/masterd/pkg/ipc/fdpass"
)

// may tells whether a process speaks for the worker.
func (s *socket) may(c unix.Ucred) bool {
	switch {
	case int(c.Uid) != s.worker.UID && c.Uid != 0, s.access.get() == AccessNone:
		return false
	case int64(c.Pid) == s.main.Load():
		return true
	case s.access.get() != AccessAll || c.Pid <= 0:
		return false
	}
	return inGroup(int(c.Pid), s.leader)
}

// inGroup tells whether a process is in the group that another one leads.
func inGroup(pid, leader int) bool {
	group, err := unix.Getpgid(pid)
	return err == nil && group == leader
}

// PassPidfds has the kernel say who has sent a message so that a number that was given
// again is noticed. The keeper's sockets stay so if this master is killed, and a masterd
// that does not know of it never closes what it is sent: it is for when no older one
// stands by.
func (r *Server) PassPidfds() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pidfds = true
	for _, s := range r.of {
		s.passPidfd(true)
	}
}

// passPidfd has each message come with a pidfd of its sender, since Linux 6.5.
func (s *socket) passPidfd(on bool) {
	value := 0
	if on {
		value = 1
	}
	_ = fdpass.Control(s.conn, func(fd int) error {
		return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PASSPIDFD, value)
	})
}

// another tells whether the number of who has sent a message has been given to another
// process since, for whom it must not be taken. It closes the pidfd. That of one who has
// ended and whose number is nobody's stays its own: a worker's last words are read late.
func another(from fdpass.Ancillary) bool {
	gone := from.Pidfd == -int(unix.ESRCH) || from.Pidfd == -int(unix.EINVAL)
	if from.Pidfd > 0 {
		gone = errors.Is(unix.PidfdSendSignal(from.Pidfd, 0, nil, 0), unix.ESRCH)
		fdpass.Close(from.Pidfd)
	}
	return gone && from.Cred != nil && !errors.Is(unix.Kill(int(from.Cred.Pid), 0), unix.ESRCH)
}
