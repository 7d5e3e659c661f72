package serve

import (
	"cmp"
	"fmt"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/masterd/masterd/pkg/ipc/fdpass"
)

// inode names an open socket, whatever descriptor it is seen through.
type inode struct{ device, number uint64 }

func identify(s Socket) (inode, error) {
	var st unix.Stat_t
	err := fdpass.Control(s, func(fd int) error { return unix.Fstat(fd, &st) })
	return inode{uint64(st.Dev), uint64(st.Ino)}, err
}

// ListenerFromFD makes a listening socket of a descriptor that was passed to us, and
// takes the descriptor over whatever happens.
//
// The order matters: os.NewFile finds the descriptor non-blocking already, so
// that net.FileListener's call of Fd does not make the shared description
// blocking for everybody (golang/go#29277).
func ListenerFromFD(fd int, name string) (Socket, error) {
	// net.FileListener believes whatever it is given.
	if listens, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN); err != nil || listens == 0 {
		syscall.Close(fd)
		return nil, fmt.Errorf("descriptor %d, passed for listener %q, is no listening socket (%w)",
			fd, name, cmp.Or(err, error(syscall.EINVAL)))
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
	s, ok := ln.(Socket)
	if !ok {
		ln.Close()
		return nil, fmt.Errorf("descriptor %d, passed for listener %q, is a %T; only TCP and Unix stream sockets are served",
			fd, name, ln)
	}
	return s, nil
}

// ConnFromFD makes a connection of a descriptor, and takes it over.
func ConnFromFD(fd int) (net.Conn, error) {
	c, err := fdpass.ConnOf(fd)
	if err != nil {
		return nil, fmt.Errorf("descriptor %d is no connection: %w", fd, err)
	}
	return c, nil
}
