package listen

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/masterd/masterd/pkg/master/sockdiag"
)

// socket is one listening socket of ours. Its descriptor is a plain number and
// never an os.File: that would clear O_NONBLOCK, which every process holding
// the socket shares.
type socket struct {
	fd     int
	inode  uint64
	hidden string // of a Unix socket: the name it is bound under
	file   fileID // of a Unix socket: what that name is
	broken bool   // a Unix socket that somebody shut down: it cannot listen again
	fell   bool   // somebody has shut it down, and it was made to listen again
	owner  uint64 // the generation that was given it; see fresh_linux.go

	token  int32 // of its registration with the watcher; zero: none
	events uint32
}

// streamSocket makes a socket of plain TCP (net.Listen would make an MPTCP one,
// which cannot be steered) or a Unix one.
func streamSocket(family int) (int, error) {
	protocol := unix.IPPROTO_TCP
	if family == unix.AF_UNIX {
		protocol = 0
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, protocol)
	if err != nil {
		return -1, fmt.Errorf("making a socket: %w", err)
	}
	return fd, nil
}

// inodeOf names a socket across processes.
func inodeOf(fd int) uint64 {
	var st unix.Stat_t
	if unix.Fstat(fd, &st) != nil {
		return 0
	}
	return st.Ino
}

// duplicate makes a descriptor for a worker.
func duplicate(fd int) (int, error) {
	n, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return -1, fmt.Errorf("duplicating a listening socket: %w", err)
	}
	return n, nil
}

// acceptNow accepts without waiting. The mode is the open file's, and workers have
// the same one: a program that waits in accept was given it so. Nobody who is alive
// should have a socket that is accepted from here, and whoever has it all the same
// would have to set the mode back and take the connection, both at this moment.
func acceptNow(fd int) (int, unix.Sockaddr, error) {
	if !readable(fd) {
		return -1, nil, unix.EAGAIN
	}
	if err := assertNonblock(fd); err != nil {
		return -1, nil, err
	}
	return unix.Accept4(fd, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
}

// assertNonblock undoes what a worker can do to all who hold the socket:
// somebody's Accept and Close would hang.
func assertNonblock(fd int) error {
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	if err == nil && flags&unix.O_NONBLOCK == 0 {
		_, err = unix.FcntlInt(uintptr(fd), unix.F_SETFL, flags|unix.O_NONBLOCK)
	}
	if err != nil {
		return fmt.Errorf("making a listening socket non-blocking: %w", err)
	}
	return nil
}

// tcpQueue is the length of a TCP socket's accept queue and its limit, both in
// connections, and whether the socket listens at all.
func tcpQueue(fd int) (length, limit int, listens bool) {
	info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
	if err != nil || info.State != sockdiag.Listen {
		return 0, 0, false
	}
	return int(info.Unacked), int(info.Sacked), true
}

// isShut tells that somebody has shut a socket down.
func isShut(fd int) bool {
	p := []unix.PollFd{{Fd: int32(fd)}}
	n, err := unix.Poll(p, 0)
	return err == nil && n == 1 && p[0].Revents&unix.POLLHUP != 0
}

// readable tells that a connection waits in the queue.
func readable(fd int) bool {
	p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	n, err := unix.Poll(p, 0)
	return err == nil && n == 1 && p[0].Revents&unix.POLLIN != 0
}
