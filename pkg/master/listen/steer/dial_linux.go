package steer

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// DialLimit bounds the connection that proves that steering works; it goes over
// loopback, and takes some 100 µs.
const DialLimit = 500 * time.Millisecond

// Anywhere is no slot: a connection goes where the kernel sends it.
const Anywhere = -1

// Dial makes a connection to an address of ours that reaches exactly one slot, whatever
// is steered to.
func Dial(ctx context.Context, to netip.AddrPort, dual bool, slot int) (net.Conn, error) {
	d := net.Dialer{KeepAlive: -1}
	d.SetMultipathTCP(false)
	switch {
	case to.Addr() == netip.IPv4Unspecified(), dual:
		// All of 127/8 is ours to take; another listener may have 127.0.0.1.
		to = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 99, 255, 254}), to.Port())
	case to.Addr() == netip.IPv6Unspecified():
		to = netip.AddrPortFrom(netip.IPv6Loopback(), to.Port())
	}
	if slot == Anywhere {
		return d.DialContext(ctx, "tcp", to.String())
	}
	if to.Addr().Is4() {
		d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(reservedSource(slot), 0))
	} else {
		d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.IPv6Loopback(), 0))
	}
	d.ControlContext = func(_ context.Context, _, _ string, c syscall.RawConn) error {
		var set error
		if err := c.Control(func(fd uintptr) { set = mark(int(fd), to.Addr().Is6(), slot) }); err != nil {
			return err
		}
		return set
	}
	return d.DialContext(ctx, "tcp", to.String())
}

// mark prepares a client's socket for a reserved connection.
func mark(fd int, ipv6 bool, slot int) error {
	// The port is chosen at connect: a port may then serve several connections,
	// and checks do not use up a source address.
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1); err != nil {
		return fmt.Errorf("setting IP_BIND_ADDRESS_NO_PORT: %w", err)
	}
	if !ipv6 {
		return nil
	}
	class, hops := reservedFields(slot)
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_TCLASS, class); err != nil {
		return fmt.Errorf("setting the traffic class: %w", err)
	}
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS, hops); err != nil {
		return fmt.Errorf("setting the hop limit: %w", err)
	}
	return nil
}

// Reset ends a connection at once: no TIME_WAIT is left on either side.
func Reset(c net.Conn) {
	if t, ok := c.(*net.TCPConn); ok {
		_ = t.SetLinger(0)
	}
	_ = c.Close()
}
