package ipc

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// maxGroups is the kernel's NGROUPS_MAX.
const maxGroups = 65536

// firstGroups is how many supplementary groups there is room for at first.
const firstGroups = 32

// supported is nil where the protocol can be spoken.
func supported() error { return nil }

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

func pair() (int, int, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	return fds[0], fds[1], os.NewSyscallError("socketpair", err)
}

// nextSize waits for a frame and says how long it is without taking it.
func nextSize(raw syscall.RawConn) (int, error) {
	var n int
	var err error
	rerr := raw.Read(func(fd uintptr) bool {
		for {
			n, _, err = unix.Recvfrom(int(fd), nil, unix.MSG_PEEK|unix.MSG_TRUNC)
			if err != unix.EINTR {
				return err != unix.EAGAIN
			}
		}
	})
	if rerr != nil {
		return 0, rerr
	}
	return n, os.NewSyscallError("recvfrom", err)
}

func rightsSpace(fds int) int { return unix.CmsgSpace(4 * fds) }

func makeRights(fds []int) []byte { return unix.UnixRights(fds...) }

// parseRights finds the descriptors in received control data. Data that is cut
// off still holds those that the kernel had opened.
func parseRights(oob []byte) []int {
	var fds []int
	for len(oob) >= unix.CmsgLen(0) {
		header, data, rest, err := unix.ParseOneSocketControlMessage(oob)
		if err != nil {
			break
		}
		if header.Level == unix.SOL_SOCKET && header.Type == unix.SCM_RIGHTS {
			m := unix.SocketControlMessage{Header: header, Data: data[:len(data)&^3]} // x/sys panics of a part of one
			if got, err := unix.ParseUnixRights(&m); err == nil {
				fds = append(fds, got...)
			}
		}
		oob = rest
	}
	return fds
}

func wasTruncated(flags int) bool { return flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0 }

// outOfRoom says that the same send may succeed a moment later.
func outOfRoom(err error) bool {
	return errors.Is(err, unix.ETOOMANYREFS) || errors.Is(err, unix.ENOBUFS) || errors.Is(err, unix.ENOMEM)
}

// interrupter makes a function that ends what this thread waits for. The runtime uses
// the same signal to stop its goroutines.
func interrupter() func() {
	pid, thread := unix.Getpid(), unix.Gettid()
	return func() { _ = unix.Tgkill(pid, thread, unix.SIGURG) }
}

// closeQueued closes the descriptors that are queued in a Unix socket.
func closeQueued(fd int) {
	if family, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN); err != nil || family != unix.AF_UNIX {
		return
	}
	buf, oob := make([]byte, firstBuffer), make([]byte, rightsSpace(MaxFDs))
	for range maxQueued {
		n, oobn, _, _, err := unix.Recvmsg(fd, buf, oob, unix.MSG_DONTWAIT|unix.MSG_CMSG_CLOEXEC)
		for _, got := range parseRights(oob[:max(oobn, 0)]) {
			_ = unix.Close(got)
		}
		if err != nil || n == 0 && oobn == 0 {
			return
		}
	}
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
	fds := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}
	n, err := unix.Poll(fds, 0)
	return n != 0 || err != nil
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
