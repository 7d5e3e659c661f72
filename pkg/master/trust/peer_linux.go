package trust

import (
	"errors"
	"fmt"
	"net"

	"golang.org/x/sys/unix"
)

// Peer is the user behind a Unix socket, by the kernel's word: who had it listen.
func Peer(c net.Conn) (uid int, err error) {
	u, ok := c.(*net.UnixConn)
	if !ok {
		return -1, fmt.Errorf("%T is no connection of a Unix socket", c)
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return -1, err
	}
	var cred *unix.Ucred
	outer := raw.Control(func(fd uintptr) { cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	if err = errors.Join(outer, err); err != nil {
		return -1, fmt.Errorf("asking who is behind a Unix socket: %w", err)
	}
	return int(cred.Uid), nil
}

// hasACL tells whether more than the mode decides who may use what is at path.
func hasACL(path string) bool {
	n, err := unix.Lgetxattr(path, "system.posix_acl_access", nil)
	return err == nil && n > 0
}
