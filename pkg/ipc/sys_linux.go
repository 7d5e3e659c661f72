package ipc

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/masterd/masterd/pkg/ipc/fdpass"
)

// maxGroups is the kernel's NGROUPS_MAX.
const maxGroups = 65536

// firstGroups is how many supplementary groups there is room for at first.
const firstGroups = 32

// supported is nil where the protocol can be spoken.
func supported() error { return nil }

func pair() (a, b int, err error) {
	a, b, err = fdpass.Pair(unix.SOCK_SEQPACKET | unix.SOCK_NONBLOCK)
	return a, b, os.NewSyscallError("socketpair", err)
}

// unread asks for what unix(7) and tcp(7) call SIOCOUTQ.
func unread(c syscall.Conn) bool {
	n := 0
	err := fdpass.Control(c, func(fd int) (err error) { n, err = unix.IoctlGetInt(fd, unix.TIOCOUTQ); return err })
	return err == nil && n > 0
}

func monotonic() time.Duration {
	var now unix.Timespec
	if unix.ClockGettime(unix.CLOCK_MONOTONIC, &now) != nil { // it cannot fail
		return 0
	}
	return time.Duration(now.Nano())
}

// limitMode gives a socket that is not yet bound the mode that its file will
// have: the kernel takes it from the socket's inode (and the umask), so that
// there is no moment at which others could connect.
func limitMode(raw syscall.RawConn, mode os.FileMode) error {
	var err error
	if cerr := raw.Control(func(fd uintptr) { err = unix.Fchmod(int(fd), uint32(mode.Perm())) }); cerr != nil {
		return cerr
	}
	return os.NewSyscallError("fchmod", err)
}

func peerCred(fd int) (Cred, error) {
	u, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return Cred{}, os.NewSyscallError("getsockopt SO_PEERCRED", err)
	}
	groups, err := peerGroups(fd)
	if err != nil {
		return Cred{}, err
	}
	return Cred{PID: int(u.Pid), UID: u.Uid, GID: u.Gid, Groups: groups, begun: begun(int(u.Pid))}, nil
}

// peerGone says whether the process that connected has ended. A kernel that has no
// pidfd of a peer is asked whether another process has its number: when that began is
// known since the connection was accepted.
func peerGone(fd int, cred Cred) bool {
	pidfd, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PEERPIDFD) // since Linux 6.5
	switch {
	case errors.Is(err, unix.ENOPROTOOPT):
		return cred.begun == "" || begun(cred.PID) != cred.begun
	case err != nil: // ESRCH or EINVAL: it is gone, and nobody holds it
		return true
	}
	defer unix.Close(pidfd)
	ended, err := fdpass.Ready(pidfd, unix.POLLIN, 0)
	return ended != 0 || err != nil
}

// begun is when a process began, in ticks since the boot; empty: it is gone.
func begun(pid int) string {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return ""
	}
	_, rest, _ := strings.Cut(string(stat[bytes.LastIndexByte(stat, ')')+1:]), " ")
	fields := strings.Fields(rest)
	const startTime = 22 - 3 // of the fields after the name, which is the second
	if len(fields) <= startTime {
		return ""
	}
	return fields[startTime]
}

// peerGroups asks for the supplementary groups, which SO_PEERCRED leaves out.
// x/sys has no wrapper for an option that is an array.
func peerGroups(fd int) ([]uint32, error) {
	for room := firstGroups; room <= maxGroups; {
		groups := make([]uint32, room)
		size := uint32(4 * room)
		_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_PEERGROUPS,
			uintptr(unsafe.Pointer(&groups[0])), uintptr(unsafe.Pointer(&size)), 0)
		switch {
		case errno == 0:
			return groups[:size/4], nil
		case errno == unix.ERANGE && int(size/4) > room: // it says how many there are
			room = int(size / 4)
		case errno == unix.ENODATA: // no peer credentials at all, so no groups
			return nil, nil
		default:
			return nil, os.NewSyscallError("getsockopt SO_PEERGROUPS", errno)
		}
	}
	return nil, fmt.Errorf("getsockopt SO_PEERGROUPS: more than %d groups", maxGroups)
}
