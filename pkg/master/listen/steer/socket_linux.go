package steer

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/masterd/masterd/pkg/ipc/fdpass"
	"github.com/masterd/masterd/pkg/master/sockdiag"
)

// Inode names a socket across processes. What is none is not asked: fstat of a file can
// hang for as long as the server of its file system likes.
func Inode(fd int) uint64 {
	var st unix.Stat_t
	if _, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE); err != nil || unix.Fstat(fd, &st) != nil {
		return 0
	}
	return st.Ino
}

// Accept accepts without waiting. The mode is the open file's, and workers have
// the same one: a program that waits in accept was given it so. Nobody who is alive
// should have a socket that is accepted from here, and whoever has it all the same
// would have to set the mode back and take the connection, both at this moment.
func Accept(fd int) (int, unix.Sockaddr, error) {
	if !Readable(fd) {
		return -1, nil, unix.EAGAIN
	}
	if err := Nonblock(fd); err != nil {
		return -1, nil, err
	}
	return unix.Accept4(fd, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
}

// Nonblock undoes what a worker can do to all who hold the socket:
// somebody's Accept and Close would hang.
func Nonblock(fd int) error {
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	if err == nil && flags&unix.O_NONBLOCK == 0 {
		_, err = unix.FcntlInt(uintptr(fd), unix.F_SETFL, flags|unix.O_NONBLOCK)
	}
	if err != nil {
		return fmt.Errorf("making a listening socket non-blocking: %w", err)
	}
	return nil
}

// Queue is the length of a TCP socket's accept queue and its limit, both in
// connections, and whether the socket listens at all.
func Queue(fd int) (length, limit int, listens bool) {
	info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
	if err != nil || info.State != sockdiag.Listen {
		return 0, 0, false
	}
	return int(info.Unacked), int(info.Sacked), true
}

// IsShut tells that somebody has shut a socket down.
func IsShut(fd int) bool {
	events, _ := fdpass.Ready(fd, 0, 0)
	return events&unix.POLLHUP != 0
}

// Readable tells that a connection waits in the queue.
func Readable(fd int) bool {
	events, _ := fdpass.Ready(fd, unix.POLLIN, 0)
	return events&unix.POLLIN != 0
}

// PortOf is the port of an address; zero: it has none.
func PortOf(sa unix.Sockaddr) int {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return sa.Port
	case *unix.SockaddrInet6:
		return sa.Port
	}
	return 0
}

// AddrOf is an address of TCP, without the form that IPv6 has for IPv4.
func AddrOf(sa unix.Sockaddr) netip.AddrPort {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr).Unmap(), uint16(sa.Port))
	}
	return netip.AddrPort{}
}

// Fits tells whether sockets, by their parts, can be those of a listener.
func Fits(sockets map[string]int, family, slots int) error {
	for name, fd := range sockets {
		if i, err := strconv.Atoi(name); err == nil && i >= slots {
			return fmt.Errorf("a socket is of slot %d, and there are %d: processes were taken away while no master was there",
				i, slots)
		}
		if got, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN); err != nil || got != family {
			return fmt.Errorf("socket %s is of family %d and not %d: %w", name, got, family, errors.Join(err, unix.EAFNOSUPPORT))
		}
	}
	return nil
}
