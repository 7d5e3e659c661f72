package notify

import (
	"encoding/binary"
	"errors"

	"golang.org/x/sys/unix"
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
func (r *Room) PassPidfds() {
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
	if raw, err := s.conn.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_PASSPIDFD, value) })
	}
}

// sender is the process that has sent a message.
type sender struct {
	cred  *unix.Ucred // nil: the kernel does not say
	pidfd int         // or an errno of the kernel's, negated; zero: it does not say
}

// another tells whether the sender's number has been given to another process since,
// for whom it must not be taken. It closes the pidfd. That of one who has ended and
// whose number is nobody's stays its own: a worker's last words are read late.
func (s sender) another() bool {
	gone := s.pidfd == -int(unix.ESRCH) || s.pidfd == -int(unix.EINVAL)
	if s.pidfd > 0 {
		gone = errors.Is(unix.PidfdSendSignal(s.pidfd, 0, nil, 0), unix.ESRCH)
		_ = unix.Close(s.pidfd)
	}
	return gone && s.cred != nil && !errors.Is(unix.Kill(int(s.cred.Pid), 0), unix.ESRCH)
}

// parse finds the sender and descriptors in control data, also in some that was
// cut off: what is there is open.
func parse(oob []byte) (from sender, fds []int) {
	for len(oob) >= unix.CmsgLen(0) {
		h, data, rest, err := unix.ParseOneSocketControlMessage(oob)
		if err != nil {
			break
		}
		m := unix.SocketControlMessage{Header: h, Data: data}
		switch {
		case h.Level != unix.SOL_SOCKET:
		case h.Type == unix.SCM_CREDENTIALS && len(data) >= unix.SizeofUcred: // x/sys reads on behind a part of them
			from.cred, _ = unix.ParseUnixCredentials(&m)
		case h.Type == unix.SCM_PIDFD && len(data) >= 4:
			from.pidfd = int(int32(binary.NativeEndian.Uint32(data)))
		case h.Type == unix.SCM_RIGHTS:
			m.Data = data[:len(data)&^3] // x/sys panics of a part of one
			if got, err := unix.ParseUnixRights(&m); err == nil {
				fds = append(fds, got...)
			}
		}
		oob = rest
	}
	return from, fds
}
