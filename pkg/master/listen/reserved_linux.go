package listen

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/masterd/masterd/pkg/master/listen/steer"
)

const (
	// verifyAccepts is how many connections are looked through for it.
	verifyAccepts = 64
	// verifyArrives bounds the wait for one that was made to be in a queue, on a
	// machine that is overloaded. One that went astray is in another before.
	verifyArrives = 5 * time.Second
)

// dial makes a connection that reaches exactly one slot.
func (l *listener) dial(ctx context.Context, slot int) (net.Conn, error) {
	if l.conf.Network == "unix" {
		path, k := l.conf.Path, l.socketOf(slot)
		if l.steering == link {
			path = k.hidden
		}
		if f, err := identifyFile(path); err != nil || f.id != k.file {
			return nil, errors.Join(fmt.Errorf("%s is not masterd's socket any more", path), err)
		}
		return (&net.Dialer{}).DialContext(ctx, "unix", path)
	}
	if l.steering == shared {
		slot = steer.Anywhere
	}
	return steer.Dial(ctx, l.addr, l.dual, slot)
}

// errAstray: the kernel took the program and does not do what it says.
var errAstray = errors.New("a connection to one slot did not arrive there")

// verify proves by a connection to the last slot that the kernel follows the
// program. Nobody is steered to a slot yet, so that nothing of a client's can
// be in its queue. Where no such connection can be made (a firewall, no
// loopback) the kernel is believed.
func (o opener) verify(l *listener) error {
	ctx, cancel := context.WithTimeout(context.Background(), steer.DialLimit)
	defer cancel()
	slot := o.slots - 1
	c, err := l.dial(ctx, slot)
	if err != nil {
		o.log.Debug("steering was not tried: no connection can be made over loopback", zap.String("listener", l.conf.Name),
			zap.Error(err))
		return nil
	}
	defer steer.Reset(c) // no TIME_WAIT on either side
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
			got, sa, err := steer.Accept(int(p.Fd))
			if err != nil {
				continue
			}
			closeFD(got)
			switch {
			case steer.PortOf(sa) != port:
			case i == slot:
				return nil
			default:
				return &steer.CannotError{Cause: errAstray}
			}
		}
	}
	return &steer.CannotError{Cause: errAstray}
}
