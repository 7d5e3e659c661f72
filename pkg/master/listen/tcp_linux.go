package listen

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

// openTCP opens a listener that nobody is steered to yet. mine are the inodes
// of the sockets that this Set has open already: one address may be within
// another, as when a reload moves from 127.0.0.1 to all addresses.
func (o opener) openTCP(c config.Listener) (*listener, error) {
	at, dual, err := resolve(c)
	if err != nil {
		return nil, err
	}
	within, err := o.proveFree(at, dual)
	if err != nil {
		return nil, err
	}
	l := &listener{conf: c, system: o.system, dual: dual, manned: make([]bool, o.slots), steering: kernel}
	if c.Steering == shared {
		l.steering, l.reason = shared, sharedReason
	}
	if l.steering == kernel {
		err := o.openPool(l, at, within)
		if err == nil && !within { // else it was tried with the other one
			err = o.verify(l)
		}
		var cannot *cannotSteer
		switch {
		case err == nil:
		case !errors.As(err, &cannot):
			l.close()
			return nil, err
		case c.Steering == kernel:
			l.close()
			return nil, fmt.Errorf("%w; steering: auto would fall back to one shared socket", err)
		default:
			l.close()
			l.sockets, l.order, l.steering, l.reason = nil, nil, shared, cannot.Error()
		}
	}
	if l.steering == shared {
		if err := l.openShared(at); err != nil {
			l.close()
			if errors.Is(err, unix.EADDRINUSE) {
				err = whatKeeps(at, dual, err)
			}
			return nil, err
		}
	}
	if err := o.alone(l); err != nil {
		l.close()
		return nil, err
	}
	return l, nil
}

// cannotSteer: the kernel does not do what steering needs.
type cannotSteer struct{ cause error }

func (e *cannotSteer) Error() string { return "the kernel cannot steer here: " + e.cause.Error() }
func (e *cannotSteer) Unwrap() error { return e.cause }

// openPool makes the slots' sockets and the master's own. All are bound, and
// the program is in force, before the first listens: no connection is ever
// left to the kernel's hash. A socket with a program also refuses to listen
// where anybody does already, so that two masters that both found the port
// free do not share it. One that is to be within another address of ours, or
// around it, must get its program after.
func (o opener) openPool(l *listener, at netip.AddrPort, within bool) error {
	if at.Port() == 0 {
		fd, err := boundSocket(at, l.dual, true)
		if err != nil {
			return err
		}
		// Kept until the pool is bound: a port that the kernel chose for a
		// socket is lost when that socket is shut down.
		defer unix.Close(fd)
		if at, err = boundTo(fd); err != nil {
			return err
		}
	}
	l.addr = at
	for i := range o.slots + 1 {
		fd, err := boundSocket(at, l.dual, true)
		if err != nil {
			return err
		}
		l.sockets = append(l.sockets, &socket{fd: fd, inode: inodeOf(fd)})
		l.order = append(l.order, i)
	}
	first := l.sockets[0]
	l.baseline = takeBaseline(first.fd)
	if within {
		if err := l.listen(first); err != nil {
			return err
		}
	}
	if err := l.system.attach(first.fd, l.program(nil)); err != nil {
		return &cannotSteer{err}
	}
	for i, s := range l.sockets {
		if i == 0 && within {
			continue
		}
		err := l.listen(s)
		if errors.Is(err, unix.EADDRINUSE) {
			return &taken{holder: o.other(l), cause: err}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// openShared makes the one socket that all workers get. Without SO_REUSEPORT,
// so that nobody can join.
func (l *listener) openShared(at netip.AddrPort) error {
	fd, err := boundSocket(at, l.dual, false)
	if err != nil {
		return err
	}
	l.sockets, l.order = []*socket{{fd: fd, inode: inodeOf(fd)}}, []int{0}
	if l.addr, err = boundTo(fd); err != nil {
		return err
	}
	l.baseline = takeBaseline(fd)
	return l.listen(l.sockets[0])
}

func (l *listener) listen(s *socket) error {
	if err := unix.Listen(s.fd, l.conf.Backlog); err != nil {
		return fmt.Errorf("listening: %w", err)
	}
	_, l.limit, _ = tcpQueue(s.fd)
	return nil
}

// boundSocket makes a TCP socket on an address.
func boundSocket(at netip.AddrPort, dual, reusePort bool) (int, error) {
	return boundSocketTo(at, dual, reusePort, false)
}

// boundSocketTo is boundSocket; free has it bind an address that this machine
// does not have at the moment.
func boundSocketTo(at netip.AddrPort, dual, reusePort, free bool) (int, error) {
	family, sa := unix.AF_INET, unix.Sockaddr(&unix.SockaddrInet4{Port: int(at.Port()), Addr: as4(at.Addr())})
	if at.Addr().Is6() {
		family, sa = unix.AF_INET6, &unix.SockaddrInet6{Port: int(at.Port()), Addr: at.Addr().As16()}
	}
	fd, err := streamSocket(family)
	if err != nil {
		return -1, err
	}
	err = func() error {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
			return fmt.Errorf("setting SO_REUSEADDR: %w", err)
		}
		if reusePort {
			if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1); err != nil {
				return &cannotSteer{fmt.Errorf("setting SO_REUSEPORT: %w", err)}
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

// boundTo is the address that a socket has.
func boundTo(fd int) (netip.AddrPort, error) {
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

// resolve turns host and port into what is bound. An empty host or :: on "tcp"
// takes IPv4 and IPv6, unless this machine has no IPv6. A name is looked up
// once, here; an IPv4 address of it is preferred, as clients of "localhost" do.
func resolve(c config.Listener) (at netip.AddrPort, dual bool, err error) {
	if c.Port < 0 || c.Port > 65535 {
		return at, false, fmt.Errorf("%d is not a port", c.Port)
	}
	want := func(a netip.Addr) bool {
		return c.Network == "tcp" || (c.Network == "tcp4") == a.Is4()
	}
	host, port := c.Host, uint16(c.Port)
	if host == "" {
		host = "::"
		if c.Network == "tcp4" || c.Network == "tcp" && !hasIPv6() {
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

// hasIPv6 tells whether the kernel has IPv6 at all.
func hasIPv6() bool {
	fd, err := boundSocket(netip.AddrPortFrom(netip.IPv6Unspecified(), 0), false, false)
	if err != nil {
		return false
	}
	_ = unix.Close(fd)
	return true
}
