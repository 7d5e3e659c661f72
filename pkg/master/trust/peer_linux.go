package trust

import (
	"fmt"
	"net"

	"golang.org/x/sys/unix"

	"github.com/masterd/masterd/pkg/ipc/fdpass"
)

// Peer is the user behind a Unix socket, by the kernel's word: who had it listen.
func Peer(c net.Conn) (uid int, err error) {
	u, ok := c.(*net.UnixConn)
	if !ok {
		return -1, fmt.Errorf("%T is no connection of a Unix socket", c)
	}
	cred, err := fdpass.Peer(u)
	if err != nil {
		return -1, fmt.Errorf("asking who is behind a Unix socket: %w", err)
	}
	return int(cred.Uid), nil
}

// hasACL tells whether more than the mode decides who may use what is at path.
func hasACL(path string) bool {
	n, err := unix.Lgetxattr(path, "system.posix_acl_access", nil)
	return err == nil && n > 0
}
