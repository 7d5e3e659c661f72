package ipc

import (
	"fmt"
	"net"
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
	raw, err := c.SyscallConn()
	if err != nil {
		return Cred{}, fmt.Errorf("asking who is at the other end of a Unix socket: %w", err)
	}
	var cred Cred
	var got error
	if err := raw.Control(func(fd uintptr) { cred, got = peerCred(int(fd)) }); err != nil {
		got = err
	}
	if got != nil {
		return Cred{}, fmt.Errorf("asking who is at the other end of a Unix socket: %w", got)
	}
	return cred, nil
}

// PeerGone says whether the process that made a connection has ended. Its number may
// be another's then: what the kernel says of [Cred.PID] now it says of that one. cred
// is what [Socket.Accept] gave with the connection.
func (l *Link) PeerGone(cred Cred) bool {
	gone := true
	if err := l.raw.Control(func(fd uintptr) { gone = peerGone(int(fd), cred) }); err != nil {
		return true
	}
	return gone
}
