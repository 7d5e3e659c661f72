package listen

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/masterd/masterd/pkg/master/config"
	"github.com/masterd/masterd/pkg/master/listen/steer"
)

// A service manager can open the address first, and keep it while there is no
// masterd at all: what comes then waits in its queue. Its socket stands in the
// place of the master's own, and the slots are added beside it.

// misnamed says so where the service manager has opened the listener's address under
// a name that is not the listener's: this process would find itself in the way.
func (o opener) misnamed(c config.Listener) error {
	for _, name := range slices.Sorted(maps.Keys(o.given)) {
		sa, err := unix.Getsockname(o.given[name])
		if err != nil {
			continue
		}
		if u, ok := sa.(*unix.SockaddrUnix); ok {
			if c.Network == "unix" && u.Name == c.Path {
				return fmt.Errorf("the service manager has opened %s, as %q: a Unix listener needs a name for each slot, so "+
					"masterd opens it: take it out of the socket unit", c.Path, name)
			}
			continue
		}
		if c.Network == "unix" {
			continue
		}
		at, dual, err := steer.Resolve(c)
		if err != nil {
			return nil // it is told where the listener is opened
		}
		if got, err := steer.Address(o.given[name]); err == nil && got.Port() == at.Port() &&
			overlap(at.Addr(), dual, got.Addr()) {
			return fmt.Errorf("the service manager has opened %s under the name %q, and the listener's name is %q: write "+
				"FileDescriptorName=%s in the socket unit", got, name, c.Name, c.Name)
		}
	}
	return nil
}

// openGiven makes a listener of the service manager's socket. On an error that
// stays open.
func (o opener) openGiven(c config.Listener, fd int) (*listener, error) {
	if c.Network == "unix" {
		return nil, errors.New("a Unix listener needs a name for each slot, so masterd opens it: take it out of the " +
			"socket unit")
	}
	at, _, err := steer.Resolve(c)
	if err != nil {
		return nil, err
	}
	option := func(name int) int {
		v, getErr := unix.GetsockoptInt(fd, unix.SOL_SOCKET, name)
		err = errors.Join(err, getErr)
		return v
	}
	protocol, listens, pooled := option(unix.SO_PROTOCOL), option(unix.SO_ACCEPTCONN) != 0, option(unix.SO_REUSEPORT) != 0
	got, boundErr := steer.Address(fd)
	switch {
	case err != nil:
		return nil, fmt.Errorf("looking at it: %w", err)
	case boundErr != nil:
		return nil, boundErr
	case protocol != unix.IPPROTO_TCP || !listens:
		return nil, errors.New("it is no listening TCP socket (ListenStream=)")
	case got != at:
		return nil, fmt.Errorf("it listens on %s, and the listener is on %s: make the socket unit and the configuration "+
			"the same", got, at)
	}
	p := pool{sockets: map[string]int{heldOwn: fd}, meta: heldMeta{Steering: kernel, Order: []int{heldOwnOrder},
		Given: true}}
	var cannot error
	switch {
	case c.Steering == shared:
		cannot = errors.New(sharedReason)
	case !pooled:
		cannot = errors.New("no slot can be added beside the service manager's socket (ReusePort=yes)")
	default:
		var l *listener
		if l, cannot = o.fromPool(c, p); cannot == nil {
			if cannot = l.aim(holding, nil, 0); cannot == nil {
				return l, nil
			}
			for _, k := range l.sockets[:l.own()] {
				_ = unix.Shutdown(k.fd, unix.SHUT_RDWR)
				closeFD(k.fd)
			}
		}
	}
	if c.Steering == kernel {
		return nil, cannot
	}
	p.meta = heldMeta{Steering: shared, Reason: cannot.Error(), Given: true}
	l, err := o.fromPool(c, p)
	if err != nil {
		return nil, err
	}
	l.inherited = false
	return l, nil
}
