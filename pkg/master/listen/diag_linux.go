package listen

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// TCP states, as sock_diag and TCP_INFO number them.
const (
	tcpSynReceived   = 3
	tcpListen        = 10
	tcpBoundInactive = 13 // bound, not listening; since Linux 6.8
)

// flow is one connection, or one that is being made.
type flow struct{ local, remote netip.AddrPort }

// handshakes lists the connections whose SYN was answered and whose ACK has
// not come: each lands in the slot that its SYN chose. It needs no privilege.
func handshakes(ipv6 bool) (map[flow]struct{}, error) {
	found := map[flow]struct{}{}
	families := []uint8{unix.AF_INET}
	if ipv6 {
		families = append(families, unix.AF_INET6)
	}
	for _, f := range families {
		err := dumpTCP(f, 1<<tcpSynReceived, 0, func(s tcpSocket) { found[s.flow] = struct{}{} })
		if err != nil {
			return nil, err
		}
	}
	return found, nil
}

// tcpSocket is one socket as sock_diag shows it.
type tcpSocket struct {
	flow
	family uint8
	state  uint8
	uid    uint32
	inode  uint64
}

// Sizes in bytes of the kernel's inet_diag_req_v2 and inet_diag_msg.
const (
	inetDiagRequest = 56
	inetDiagMessage = 72
)

// dumpTCP calls each for all sockets in one of the states (a bit each) on a
// local port; zero: on any.
func dumpTCP(family uint8, states uint32, port uint16, each func(tcpSocket)) error {
	q := make([]byte, inetDiagRequest)
	q[0], q[1] = family, unix.IPPROTO_TCP
	binary.NativeEndian.PutUint32(q[4:], states)
	binary.BigEndian.PutUint16(q[8:], port)
	req := nl.NewNetlinkRequest(nl.SOCK_DIAG_BY_FAMILY, unix.NLM_F_DUMP)
	req.AddRawData(q)
	err := req.ExecuteIter(unix.NETLINK_INET_DIAG, nl.SOCK_DIAG_BY_FAMILY, func(m []byte) bool {
		if len(m) < inetDiagMessage {
			return true
		}
		s := tcpSocket{family: m[0], state: m[1]}
		s.local = diagAddr(m[0], m[8:24], m[4:6])
		s.remote = diagAddr(m[0], m[24:40], m[6:8])
		s.uid = binary.NativeEndian.Uint32(m[64:])
		s.inode = uint64(binary.NativeEndian.Uint32(m[68:]))
		each(s)
		return true
	})
	if err != nil {
		return fmt.Errorf("asking the kernel for its TCP sockets (sock_diag): %w", err)
	}
	return nil
}

func diagAddr(family uint8, ip, port []byte) netip.AddrPort {
	p := binary.BigEndian.Uint16(port)
	if family == unix.AF_INET {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(ip[:4])), p)
	}
	return netip.AddrPortFrom(netip.AddrFrom16([16]byte(ip)), p)
}

// Of the kernel's unix_diag.h.
const (
	unixDiagRequest   = 24 // bytes
	unixDiagMessage   = 16 // bytes
	unixDiagShowQueue = 0x10
	unixDiagQueue     = 4 // attribute
)

// unixQueue is the length of a Unix socket's accept queue and its limit.
func unixQueue(inode uint64) (length, limit int, err error) {
	q := make([]byte, unixDiagRequest)
	q[0] = unix.AF_UNIX
	binary.NativeEndian.PutUint32(q[4:], 1<<tcpListen)
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
