package fdpass

import (
	"encoding/binary"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// Pair makes a pair of connected Unix sockets of a kind (unix.SOCK_SEQPACKET, perhaps
// with unix.SOCK_NONBLOCK). Both are close-on-exec and the caller's to close.
func Pair(kind int) (a, b int, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, -1, err
	}
	return fds[0], fds[1], nil
}

// StreamPair is a pair of which one end is a connection of this process. The other is to
// be passed on, and the caller's to close; flags may have it be unix.SOCK_NONBLOCK.
func StreamPair(flags int) (ours *net.UnixConn, theirs int, err error) {
	a, b, err := Pair(unix.SOCK_STREAM | flags)
	if err != nil {
		return nil, -1, err
	}
	c, err := ConnOf(a)
	if err != nil {
		Close(b)
		return nil, -1, err
	}
	return c.(*net.UnixConn), b, nil
}

// Bind makes a Unix socket of a kind at a path. It is non-blocking, close-on-exec and the
// caller's, and does not listen yet. The name has the socket's mode (and the umask can
// take from it), so that there is no moment at which others could reach it.
func Bind(path string, kind int, mode uint32) (fd int, err error) {
	fd, err = unix.Socket(unix.AF_UNIX, kind|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	err = os.NewSyscallError("fchmod", unix.Fchmod(fd, mode))
	if err == nil {
		err = os.NewSyscallError("bind", unix.Bind(fd, &unix.SockaddrUnix{Name: path}))
	}
	if err != nil {
		Close(fd)
		return -1, err
	}
	return fd, nil
}

// Peer is who connected a Unix socket or, asked by who did, who had it listen. On a pair
// it is who made the pair.
func Peer(c syscall.Conn) (cred *unix.Ucred, err error) {
	err = Control(c, func(fd int) (err error) {
		cred, err = unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
		return os.NewSyscallError("getsockopt SO_PEERCRED", err)
	})
	return cred, err
}

// Ancillary is what came beside a message's bytes.
type Ancillary struct {
	FDs  []int       // the caller's to close
	Cred *unix.Ucred // of the sender; nil: the kernel did not say (SO_PASSCRED)
	// of the sender, the caller's to close; or an errno, negated; zero: the kernel did not say
	// (SO_PASSPIDFD)
	Pidfd int
}

// ParseControl finds what there is in received control data, also in data that was cut
// off: what is there is open.
func ParseControl(oob []byte) (a Ancillary) {
	eachControl(oob, func(m unix.SocketControlMessage) {
		switch {
		case m.Header.Level != unix.SOL_SOCKET:
		// x/sys reads on behind a part of them
		case m.Header.Type == unix.SCM_CREDENTIALS && len(m.Data) >= unix.SizeofUcred:
			a.Cred, _ = unix.ParseUnixCredentials(&m)
		case m.Header.Type == unix.SCM_PIDFD && len(m.Data) >= 4:
			a.Pidfd = int(int32(binary.NativeEndian.Uint32(m.Data)))
		default:
			a.FDs = append(a.FDs, rightsOf(m)...)
		}
	})
	return a
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
	buf, oob := make([]byte, firstBuffer), make([]byte, unix.CmsgSpace(4*maxRights))
	for range maxQueued {
		n, oobn, _, _, err := unix.Recvmsg(fd, buf, oob, unix.MSG_DONTWAIT|unix.MSG_CMSG_CLOEXEC)
		Close(rightsIn(oob[:max(oobn, 0)])...)
		if err != nil || n == 0 && oobn == 0 {
			return
		}
	}
}
