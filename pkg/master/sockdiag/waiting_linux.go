package sockdiag

import (
	"encoding/binary"
	"fmt"
	"os"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// SettleTime passes before handshakes are looked at: a SYN that was being handled when
// the steering changed is in no table yet.
const SettleTime = 20 * time.Millisecond

// Handshakes lists the connections whose SYN was answered and whose ACK has
// not come, on all ports: each lands in the socket that its SYN chose. With ipv6 those of
// dual-stack and IPv6 sockets, too.
func Handshakes(ipv6 bool) (map[Flow]struct{}, error) {
	found := map[Flow]struct{}{}
	families := []uint8{unix.AF_INET}
	if ipv6 {
		families = append(families, unix.AF_INET6)
	}
	for _, f := range families {
		err := TCP(Query{Family: f, States: 1 << SynReceived}, func(s Socket) { found[s.Flow] = struct{}{} })
		if err != nil {
			return nil, err
		}
	}
	return found, nil
}

// Of the kernel's unix_diag.h.
const (
	unixDiagRequest   = 24 // bytes
	unixDiagMessage   = 16 // bytes
	unixDiagShowQueue = 0x10
	unixDiagQueue     = 4 // attribute
)

// UnixQueue is the length of a Unix socket's accept queue and its limit.
func UnixQueue(inode uint64) (length, limit int, err error) {
	q := make([]byte, unixDiagRequest)
	q[0] = unix.AF_UNIX
	binary.NativeEndian.PutUint32(q[4:], 1<<Listen)
	binary.NativeEndian.PutUint32(q[8:], uint32(inode))
	binary.NativeEndian.PutUint32(q[12:], unixDiagShowQueue)
	binary.NativeEndian.PutUint64(q[16:], ^uint64(0)) // any cookie
	req := nl.NewNetlinkRequest(nl.SOCK_DIAG_BY_FAMILY, 0)
	req.AddRawData(q)
	answers, err := req.Execute(unix.NETLINK_INET_DIAG, nl.SOCK_DIAG_BY_FAMILY)
	if err != nil {
		return 0, 0, fmt.Errorf("asking the kernel for a Unix socket's queue (sock_diag): %w", err)
	}
	for _, m := range answers {
		if len(m) < unixDiagMessage {
			continue
		}
		attrs, err := nl.ParseRouteAttr(m[unixDiagMessage:])
		if err != nil {
			continue
		}
		for _, a := range attrs {
			if a.Attr.Type == unixDiagQueue && len(a.Value) >= 8 {
				return int(binary.NativeEndian.Uint32(a.Value)), int(binary.NativeEndian.Uint32(a.Value[4:])), nil
			}
		}
	}
	return 0, 0, os.ErrNotExist
}

// StillUnderWay are those of the handshakes on these ports that were at the
// looks before, too. nil: this is the first look.
func StillUnderWay(before, flows map[Flow]struct{}, ports map[uint16]bool) map[Flow]struct{} {
	still := map[Flow]struct{}{}
	for f := range flows {
		if _, was := before[f]; ports[f.Local.Port()] && (was || before == nil) {
			still[f] = struct{}{}
		}
	}
	return still
}
