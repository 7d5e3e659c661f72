package sockdiag

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"time"
	"unsafe"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Socket is one TCP socket.
type Socket struct {
	Flow
	State  uint8
	UID    uint32
	Inode  uint64 // zero: no process has it (not accepted yet, or closed)
	Cookie uint64 // as SO_COOKIE; no other socket has it, ever
	Unread uint32 // bytes that wait to be read; of one that listens, connections that wait
	Unsent uint32 // bytes that the other end has not acknowledged
	// Expires is how long the kernel's timer runs on: of one in TIME_WAIT, until it is
	// no more.
	Expires time.Duration
	// Info is there where it was asked for, and the kernel gives it.
	Info *unix.TCPInfo
}

// Sizes in bytes of the kernel's inet_diag_req_v2 and inet_diag_msg, and what is
// asked for besides.
const (
	request = 56
	message = 72
	info    = 2 // INET_DIAG_INFO, as an attribute
)

// Query says which sockets are meant.
type Query struct {
	Family uint8  // AF_INET or AF_INET6
	States uint32 // a bit each: 1 << Listen
	Port   uint16 // local; zero: any
	Info   bool   // with TCP_INFO
}

// TCP calls each for every socket that is meant.
func TCP(q Query, each func(Socket)) error {
	b := make([]byte, request)
	b[0], b[1] = q.Family, unix.IPPROTO_TCP
	if q.Info {
		b[2] = 1 << (info - 1)
	}
	binary.NativeEndian.PutUint32(b[4:], q.States)
	binary.BigEndian.PutUint16(b[8:], q.Port)
	req := nl.NewNetlinkRequest(nl.SOCK_DIAG_BY_FAMILY, unix.NLM_F_DUMP)
	req.AddRawData(b)
	err := req.ExecuteIter(unix.NETLINK_INET_DIAG, nl.SOCK_DIAG_BY_FAMILY, func(m []byte) bool {
		if s, ok := parse(m, q); ok {
			each(s)
		}
		return true
	})
	if err != nil {
		return fmt.Errorf("asking the kernel for its TCP sockets (sock_diag): %w", err)
	}
	return nil
}

// parse reads one answer; false: it is not of a socket that is meant.
func parse(m []byte, q Query) (s Socket, ok bool) {
	if len(m) < message {
		return s, false
	}
	s = Socket{
		Flow:  Flow{address(m[0], m[8:24], m[4:6]), address(m[0], m[24:40], m[6:8])},
		State: m[1], Unread: binary.NativeEndian.Uint32(m[56:]), Unsent: binary.NativeEndian.Uint32(m[60:]),
		Expires: time.Duration(binary.NativeEndian.Uint32(m[52:])) * time.Millisecond,
		Cookie:  uint64(binary.NativeEndian.Uint32(m[44:])) | uint64(binary.NativeEndian.Uint32(m[48:]))<<32,
		UID:     binary.NativeEndian.Uint32(m[64:]), Inode: uint64(binary.NativeEndian.Uint32(m[68:])),
	}
	if q.Port != 0 && s.Local.Port() != q.Port {
		return s, false // the kernel gives all that are bound and do not listen, whatever their port
	}
	if q.Info {
		s.Info = tcpInfo(m[message:])
	}
	return s, true
}

// tcpInfo finds TCP_INFO among the attributes. An older kernel's is shorter: what
// it does not say is zero.
func tcpInfo(attributes []byte) *unix.TCPInfo {
	all, err := nl.ParseRouteAttr(attributes[:len(attributes)&^3]) // it panics of a last one without its padding
	if err != nil {
		return nil
	}
	for _, a := range all {
		if a.Attr.Type == info {
			var t unix.TCPInfo
			copy(unsafe.Slice((*byte)(unsafe.Pointer(&t)), unsafe.Sizeof(t)), a.Value)
			return &t
		}
	}
	return nil
}

func address(family uint8, ip, port []byte) netip.AddrPort {
	p := binary.BigEndian.Uint16(port)
	if family == unix.AF_INET {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(ip[:4])), p)
	}
	return netip.AddrPortFrom(netip.AddrFrom16([16]byte(ip)), p)
}
