package ipc

import (
	"fmt"
	"net"

	"github.com/masterd/masterd/pkg/ipc/fdpass"
)

// Cred says who is at the other end of a Unix socket, by the kernel's word: the
// process that connected, as it was when it did.
type Cred struct {
	PID    int // 0: in a PID namespace that is not ours to see
	UID    uint32
	GID    uint32   // primary group
	Groups []uint32 // supplementary groups

	begun string // when the process began, in the kernel's unit; empty: it was gone, or it is not asked for
}

// Member says whether the peer is in a group, as primary or supplementary one.
func (c Cred) Member(gid uint32) bool {
	if c.GID == gid {
		return true
	}
	for _, g := range c.Groups {
		if g == gid {
			return true
		}
	}
	return false
}

// PeerCred asks the kernel who made a connection. It works for connections
// through a path; on a socket pair it names the maker of the pair.
func PeerCred(c *net.UnixConn) (Cred, error) {
	var cred Cred
	err := fdpass.Control(c, func(fd int) (err error) { cred, err = peerCred(fd); return err })
	if err != nil {
		return Cred{}, fmt.Errorf("asking who is at the other end of a Unix socket: %w", err)
	}
	return cred, nil
}

// PeerGone says whether the process that made a connection has ended. Its number may
// be another's then: what the kernel says of [Cred.PID] now it says of that one. cred
// is what [Socket.Accept] gave with the connection.
func (l *Link) PeerGone(cred Cred) bool {
	gone := true
	_ = fdpass.Control(l.conn, func(fd int) error { gone = peerGone(fd, cred); return nil })
	return gone
}
