package listen

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

const (
	// verifyTimeout bounds the connection that proves that steering works; it
	// goes over loopback, and takes some 100 µs.
	verifyTimeout = 500 * time.Millisecond
	// verifyAccepts is how many connections are looked through for it.
	verifyAccepts = 64
	// verifyArrives bounds the wait for one that was made to be in a queue, on a
	// machine that is overloaded. One that went astray is in another before.
	verifyArrives = 5 * time.Second
)

// dial makes a connection that reaches exactly one slot.
func (l *listener) dial(ctx context.Context, slot int) (net.Conn, error) {
	d := net.Dialer{KeepAlive: -1}
	d.SetMultipathTCP(false)
	if l.conf.Network == "unix" {
		path, k := l.conf.Path, l.socketOf(slot)
		if l.steering == link {
			path = k.hidden
		}
		if f, err := identifyFile(path); err != nil || f.id != k.file {
			return nil, errors.Join(fmt.Errorf("%s is not masterd's socket any more", path), err)
		}
		return d.DialContext(ctx, "unix", path)
	}
	to := l.addr
	switch {
	case to.Addr() == netip.IPv4Unspecified(), l.dual:
		// All of 127/8 is ours to take; another listener may have 127.0.0.1.
		to = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 99, 255, 254}), to.Port())
	case to.Addr() == netip.IPv6Unspecified():
		to = netip.AddrPortFrom(netip.IPv6Loopback(), to.Port())
	}
	if l.steering == shared {
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

// errAstray: the kernel took the program and does not do what it says.
var errAstray = errors.New("a connection to one slot did not arrive there")

// verify proves by a connection to the last slot that the kernel follows the
// program. Nobody is steered to a slot yet, so that nothing of a client's can
// be in its queue. Where no such connection can be made (a firewall, no
// loopback) the kernel is believed.
func (o opener) verify(l *listener) error {
	ctx, cancel := context.WithTimeout(context.Background(), verifyTimeout)
	defer cancel()
	slot := o.slots - 1
	c, err := l.dial(ctx, slot)
	if err != nil {
		o.log.Debug("steering was not tried: no connection can be made over loopback", zap.String("listener", l.conf.Name), zap.Error(err))
		return nil
	}
	defer reset(c) // no TIME_WAIT on either side
	port := c.LocalAddr().(*net.TCPAddr).Port
	// Over loopback the handshake ends in the queue before, or just after,
	// connect returns. All slots are looked into: that it is late proves nothing,
	// that it is elsewhere does.
	poll := make([]unix.PollFd, o.slots)
	for i := range poll {
		poll[i] = unix.PollFd{Fd: int32(l.sockets[i].fd), Events: unix.POLLIN}
	}
	deadline := time.Now().Add(verifyArrives)
	for range verifyAccepts {
		n, err := unix.Poll(poll, max(0, int(time.Until(deadline).Milliseconds())))
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || n == 0 {
			break
		}
		for i, p := range poll {
			if p.Revents == 0 {
				continue
			}
			got, sa, err := acceptNow(int(p.Fd))
			if err != nil {
				continue
			}
			closeFD(got)
			switch {
			case portOf(sa) != port:
			case i == slot:
				return nil
			default:
				return &cannotSteer{errAstray}
			}
		}
	}
	return &cannotSteer{errAstray}
}

func reset(c net.Conn) {
	if t, ok := c.(*net.TCPConn); ok {
		_ = t.SetLinger(0)
	}
	_ = c.Close()
}

func portOf(sa unix.Sockaddr) int {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return sa.Port
	case *unix.SockaddrInet6:
		return sa.Port
	}
	return 0
}
