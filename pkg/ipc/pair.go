package ipc

import (
	"fmt"
	"net"
	"os"
	"syscall"
)

// Pair makes both ends of a handover link, to be passed to two workers. They
// are close-on-exec and the caller's to close.
func Pair() (a, b int, err error) {
	a, b, err = pair()
	if err != nil {
		return -1, -1, fmt.Errorf("making a handover link: %w", err)
	}
	return a, b, nil
}

// Adopt makes a Link of an end that came with a message, and takes the
// descriptor over whatever happens.
func Adopt(fd int) (*Link, error) {
	if err := syscall.SetNonblock(fd, true); err != nil {
		_ = syscall.Close(fd)
		return nil, fmt.Errorf("descriptor %d, passed as a link: %w", fd, err)
	}
	f := os.NewFile(uintptr(fd), "link")
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		return nil, fmt.Errorf("descriptor %d, passed as a link, is none: %w", fd, err)
	}
	u, ok := c.(*net.UnixConn)
	if !ok || u.LocalAddr().Network() != network {
		_ = c.Close()
		return nil, fmt.Errorf("descriptor %d, passed as a link, is a connection of type %s", fd, c.LocalAddr().Network())
	}
	return newLink(u)
}
