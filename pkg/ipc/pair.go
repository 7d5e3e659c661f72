package ipc

import (
	"fmt"
	"net"
	"os"
	"syscall"

	"github.com/masterd/masterd/pkg/ipc/fdpass"
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

// InheritedAs is the value of [EnvControlFD] that tells a process of one end of a pair,
// which it inherits as this descriptor. The inode is in it because programs between the
// master and the worker may close what they do not know, and its number is then another
// file's.
func InheritedAs(descriptor, end int) (string, error) {
	inode, err := socketInode(end)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%d:%d", descriptor, inode), nil
}

// Inherit takes over the socket that a value of [EnvControlFD] names. If it is not
// there any more that is an error, and no descriptor was touched.
func Inherit(value string) (*Link, error) {
	var descriptor int
	var inode uint64
	if n, err := fmt.Sscanf(value, "%d:%d", &descriptor, &inode); n != 2 || err != nil || descriptor < 0 {
		return nil, fmt.Errorf("%s=%q is no descriptor and inode", EnvControlFD, value)
	}
	if is, err := socketInode(descriptor); err != nil || is != inode {
		return nil, fmt.Errorf("descriptor %d is not the control socket that %s tells of", descriptor, EnvControlFD)
	}
	syscall.CloseOnExec(descriptor) // the worker's own programs do not inherit it
	return Adopt(descriptor)
}

// socketInode names a socket among all of its host.
func socketInode(fd int) (uint64, error) {
	var st syscall.Stat_t
	if err := syscall.Fstat(fd, &st); err != nil {
		return 0, os.NewSyscallError("fstat", err)
	}
	if uint32(st.Mode)&syscall.S_IFMT != syscall.S_IFSOCK {
		return 0, fmt.Errorf("descriptor %d is no socket", fd)
	}
	return st.Ino, nil
}

// Adopt makes a Link of an end that came with a message, and takes the
// descriptor over whatever happens.
func Adopt(fd int) (*Link, error) {
	c, err := fdpass.ConnOf(fd)
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
