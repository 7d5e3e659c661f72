package steer

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/masterd/masterd/pkg/master/config"
)

// lookupTimeout bounds the look-up of a host name, which happens once, when
// its listener is opened.
const lookupTimeout = 5 * time.Second

// CannotError is why the kernel does not do what steering needs.
type CannotError struct{ Cause error }

func (e *CannotError) Error() string { return "the kernel cannot steer here: " + e.Cause.Error() }
func (e *CannotError) Unwrap() error { return e.Cause }

// Family is the address family of a socket for an address.
func Family(at netip.AddrPort) int {
	if at.Addr().Is6() {
		return unix.AF_INET6
	}
	return unix.AF_INET
}

// Stream makes a socket of plain TCP (net.Listen would make an MPTCP one,
// which cannot be steered) or a Unix one.
func Stream(family int) (int, error) {
	protocol := unix.IPPROTO_TCP
	if family == unix.AF_UNIX {
		protocol = 0
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, protocol)
	if err != nil {
		return -1, fmt.Errorf("making a socket: %w", err)
	}
	return fd, nil
}

// Bind makes a TCP socket on an address; dual: an IPv6 wildcard takes IPv4, too. The
// descriptor is the caller's. A [*CannotError]: the kernel has no SO_REUSEPORT.
func Bind(at netip.AddrPort, dual, reusePort bool) (int, error) {
	return bindTo(at, dual, reusePort, false)
}

// BindFree is Bind to an address that this machine may not have at the moment.
func BindFree(at netip.AddrPort, dual, reusePort bool) (int, error) {
	return bindTo(at, dual, reusePort, true)
}

// bindTo is Bind; free has it bind an address that this machine
// does not have at the moment.
func bindTo(at netip.AddrPort, dual, reusePort, free bool) (int, error) {
	family, sa := unix.AF_INET, unix.Sockaddr(&unix.SockaddrInet4{Port: int(at.Port()), Addr: as4(at.Addr())})
	if at.Addr().Is6() {
		family, sa = unix.AF_INET6, &unix.SockaddrInet6{Port: int(at.Port()), Addr: at.Addr().As16()}
	}
	fd, err := Stream(family)
	if err != nil {
		return -1, err
	}
	err = func() error {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
			return fmt.Errorf("setting SO_REUSEADDR: %w", err)
		}
		if reusePort {
			if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1); err != nil {
				return &CannotError{fmt.Errorf("setting SO_REUSEPORT: %w", err)}
			}
		}
		if family == unix.AF_INET6 {
			only := 1
			if dual {
				only = 0
			}
			if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, only); err != nil {
				return fmt.Errorf("setting IPV6_V6ONLY: %w", err)
			}
		}
		if free {
			if err := unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_FREEBIND, 1); err != nil {
				return fmt.Errorf("setting IP_FREEBIND: %w", err)
			}
			defer func() { _ = unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_FREEBIND, 0) }()
		}
		if err := unix.Bind(fd, sa); err != nil {
			return fmt.Errorf("binding: %w", err)
		}
		return nil
	}()
	if err != nil {
		_ = unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

func as4(a netip.Addr) [4]byte {
	if a.Is4() {
		return a.As4()
	}
	return [4]byte{}
}

// Address is the address that a socket has.
func Address(fd int) (netip.AddrPort, error) {
	sa, err := unix.Getsockname(fd)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("asking for a socket's address: %w", err)
	}
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port)), nil
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr), uint16(sa.Port)), nil
	}
	return netip.AddrPort{}, fmt.Errorf("a socket has an address of type %T", sa)
}

// Resolve turns host and port into what is bound. An empty host or :: on "tcp"
// takes IPv4 and IPv6, unless this machine has no IPv6. A name is looked up
// once, here; an IPv4 address of it is preferred, as clients of "localhost" do.
func Resolve(c config.Listener) (at netip.AddrPort, dual bool, err error) {
	if c.Port < 0 || c.Port > 65535 {
		return at, false, fmt.Errorf("%d is not a port", c.Port)
	}
	want := func(a netip.Addr) bool {
		return c.Network == "tcp" || (c.Network == "tcp4") == a.Is4()
	}
	host, port := c.Host, uint16(c.Port)
	if host == "" {
		host = "::"
		if c.Network == "tcp4" || c.Network == "tcp" && !HasIPv6() {
			host = "0.0.0.0"
		}
	}
	if a, err := netip.ParseAddr(host); err == nil {
		a = a.Unmap()
		switch {
		case a.Zone() != "":
			return at, false, errors.New("an address with a zone cannot be listened on; write it without")
		case !want(a):
			return at, false, fmt.Errorf("%s is not an address of %s", a, c.Network)
		}
		return netip.AddrPortFrom(a, port), c.Network == "tcp" && a == netip.IPv6Unspecified(), nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), lookupTimeout)
	defer cancel()
	found, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return at, false, fmt.Errorf("looking up %s: %w", host, err)
	}
	for i := range found {
		found[i] = found[i].Unmap()
	}
	slices.SortStableFunc(found, func(a, b netip.Addr) int { return a.BitLen() - b.BitLen() })
	for _, a := range found {
		if want(a) {
			return netip.AddrPortFrom(a.WithZone(""), port), false, nil
		}
	}
	return at, false, fmt.Errorf("%s has no address of %s", host, c.Network)
}

// HasIPv6 tells whether the kernel has IPv6 at all.
func HasIPv6() bool {
	fd, err := Bind(netip.AddrPortFrom(netip.IPv6Unspecified(), 0), false, false)
	if err != nil {
		return false
	}
	_ = unix.Close(fd)
	return true
}
