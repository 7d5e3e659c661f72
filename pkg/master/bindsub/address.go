package bindsub

import (
	"encoding/binary"
	"net/netip"
)

// Of the kernel's sockaddr, which is the caller's memory: nothing of it is
// believed but what its length allows.
const (
	familyInet  = 2
	familyInet6 = 10
	sizeInet    = 16 // of sockaddr_in, bytes
	sizeInet6   = 24 // the least that the kernel takes of a sockaddr_in6 (RFC 2133's)
	maxSockaddr = 128
)

// parseSockaddr reads the address of a TCP bind. Others are none of ours.
func parseSockaddr(b []byte) (at netip.AddrPort, ok bool) {
	if len(b) < 2 {
		return at, false
	}
	switch family := binary.NativeEndian.Uint16(b); {
	case family == familyInet && len(b) >= sizeInet:
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[4:8])), binary.BigEndian.Uint16(b[2:])), true
	case family == familyInet6 && len(b) >= sizeInet6:
		return netip.AddrPortFrom(netip.AddrFrom16([16]byte(b[8:24])), binary.BigEndian.Uint16(b[2:])), true
	}
	return at, false
}
