package worker

import (
	"cmp"
	"fmt"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// inode names an open socket or file, whatever descriptor it is seen through.
type inode struct{ device, number uint64 }

func identify(s socket) (inode, error) {
	raw, err := s.SyscallConn()
	if err != nil {
		return inode{}, err
	}
	var st unix.Stat_t
	var failed error
	if err := raw.Control(func(fd uintptr) { failed = unix.Fstat(int(fd), &st) }); err != nil {
		return inode{}, err
	}
	return inode{uint64(st.Dev), uint64(st.Ino)}, failed
}

// socketOf makes a listening socket of a descriptor that was passed to us, and
// takes the descriptor over whatever happens.
//
// The order matters: os.NewFile finds the descriptor non-blocking already, so
// that net.FileListener's call of Fd does not make the shared description
// blocking for everybody (golang/go#29277).
func socketOf(fd int, name string) (socket, error) {
	// net.FileListener believes whatever it is given.
	if listens, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN); err != nil || listens == 0 {
		syscall.Close(fd)
		return nil, fmt.Errorf("descriptor %d, passed for listener %q, is no listening socket (%w)", fd, name, cmp.Or(err, error(syscall.EINVAL)))
	}
	if err := syscall.SetNonblock(fd, true); err != nil {
		syscall.Close(fd)
		return nil, fmt.Errorf("descriptor %d, passed for listener %q, cannot be used: %w", fd, name, err)
	}
	syscall.CloseOnExec(fd)
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	ln, err := net.FileListener(f)
	if err != nil {
		return nil, fmt.Errorf("descriptor %d, passed for listener %q, cannot be listened on: %w", fd, name, err)
	}
	s, ok := ln.(socket)
	if !ok {
		ln.Close()
		return nil, fmt.Errorf("descriptor %d, passed for listener %q, is a %T; only TCP and Unix stream sockets are served", fd, name, ln)
	}
	return s, nil
}

// connOf makes a connection of a descriptor, and takes it over.
func connOf(fd int) (net.Conn, error) {
	if err := syscall.SetNonblock(fd, true); err != nil {
		syscall.Close(fd)
		return nil, fmt.Errorf("descriptor %d cannot be used as a connection: %w", fd, err)
	}
	f := os.NewFile(uintptr(fd), "connection")
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		return nil, fmt.Errorf("descriptor %d is no connection: %w", fd, err)
	}
	return c, nil
}

func closeAll(fds []int) {
	for _, fd := range fds {
		syscall.Close(fd)
	}
}

func fileID(fi os.FileInfo) inode {
	if st, ok := fi.Sys().(*syscall.Stat_t); ok {
		return inode{uint64(st.Dev), uint64(st.Ino)}
	}
	return inode{}
}
