package listen

import (
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/masterd/masterd/pkg/master/config"
	"github.com/masterd/masterd/pkg/master/listen/steer"
)

// openTCP opens a listener that nobody is steered to yet. mine are the inodes
// of the sockets that this Set has open already: one address may be within
// another, as when a reload moves from 127.0.0.1 to all addresses.
func (o opener) openTCP(c config.Listener) (*listener, error) {
	at, dual, err := steer.Resolve(c)
	if err != nil {
		return nil, err
	}
	within, err := o.proveFree(at, dual)
	if err != nil {
		return nil, err
	}
	l := &listener{conf: c, system: o.system, assigned: make([]bool, o.slots), steering: kernel}
	l.dual = dual
	if c.Steering == shared {
		l.steering, l.reason = shared, sharedReason
	}
	if l.steering == kernel {
		err := o.openPool(l, at, within)
		if err == nil && !within { // else it was tried with the other one
			err = o.verify(l)
		}
		var cannot *steer.CannotError
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

// openPool makes the slots' sockets and the master's own. All are bound, and
// the program is in force, before the first listens: no connection is ever
// left to the kernel's hash. A socket with a program also refuses to listen
// where anybody does already, so that two masters that both found the port
// free do not share it. One that is to be within another address of ours, or
// around it, must get its program after.
func (o opener) openPool(l *listener, at netip.AddrPort, within bool) error {
	if at.Port() == 0 {
		fd, err := steer.Bind(at, l.dual, true)
		if err != nil {
			return err
		}
		// Kept until the pool is bound: a port that the kernel chose for a
		// socket is lost when that socket is shut down.
		defer unix.Close(fd)
		if at, err = steer.Address(fd); err != nil {
			return err
		}
	}
	l.addr = at
	for i := range o.slots + 1 {
		fd, err := steer.Bind(at, l.dual, true)
		if err != nil {
			return err
		}
		l.sockets = append(l.sockets, &socket{fd: fd, inode: steer.Inode(fd)})
		l.order = append(l.order, i)
	}
	first := l.sockets[0]
	l.baseline = steer.TakeBaseline(first.fd)
	if within {
		if err := l.listen(first); err != nil {
			return err
		}
	}
	if err := l.system.attach(first.fd, l.program(nil, 0)); err != nil {
		return &steer.CannotError{Cause: err}
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
	fd, err := steer.Bind(at, l.dual, false)
	if err != nil {
		return err
	}
	l.sockets, l.order = []*socket{{fd: fd, inode: steer.Inode(fd)}}, []int{0}
	if l.addr, err = steer.Address(fd); err != nil {
		return err
	}
	l.baseline = steer.TakeBaseline(fd)
	return l.listen(l.sockets[0])
}

func (l *listener) listen(s *socket) error {
	if err := unix.Listen(s.fd, l.conf.Backlog); err != nil {
		return fmt.Errorf("listening: %w", err)
	}
	_, l.limit, _ = steer.Queue(s.fd)
	return nil
}
