package listen

import (
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/masterd/masterd/pkg/master/config"
	"github.com/masterd/masterd/pkg/master/keeper"
	"github.com/masterd/masterd/pkg/master/listen/salvage"
)

// opener opens listeners.
type opener struct {
	system system
	slots  int
	log    *zap.Logger
	mine   map[uint64]string      // names of our listeners, by their sockets' inodes
	held   map[string]keeper.Held // what an earlier Set has left
	// holders have what it has left where nobody held it beside it.
	holders []Holder
	shares  []Share                                         // what they were steered to, as far as is known
	sticky  uint32                                          // with that salt
	given   map[string]int                                  // the service manager's sockets, by listener
	desert  func(c config.Listener, p pool, why error) bool // gives up what was left and nobody serves from
}

// know makes the sockets of an open listener known as ours.
func (o opener) know(l *listener) {
	for _, s := range l.sockets {
		o.mine[s.inode] = l.conf.Name
	}
}

// open opens one listener, or takes it over; nobody is steered to there yet.
func (o opener) open(c config.Listener) (*listener, error) {
	l, err := o.takeOver(c)
	switch {
	case err != nil:
		return nil, asError(c, err)
	case l != nil:
		return l, nil
	}
	if fd, ok := o.given[c.Name]; ok {
		delete(o.given, c.Name)
		if l, err = o.openGiven(c, fd); err != nil {
			closeFD(fd)
			return nil, asError(c, fmt.Errorf("taking the service manager's socket: %w", err))
		}
		return l, nil
	}
	if err := o.misnamed(c); err != nil {
		return nil, asError(c, err)
	}
	open := o.openTCP
	if c.Network == "unix" {
		open = o.openUnix
	}
	if l, err = open(c); err != nil {
		return nil, asError(c, err)
	}
	return l, nil
}

// salvage adds to a pool what workers have of a listener, and finds out its order. The
// connections that it returns had gone astray.
func (o opener) salvage(c config.Listener, p *pool) (strays []int, err error) {
	r := salvage.Request{
		Listener: c, Slots: o.slots, Held: p.sockets,
		Hidden: func(part string) string { return hiddenName(c.Path, part) },
		Attach: o.system.attach, Handshakes: o.system.handshakes, Log: o.log, Sticky: o.sticky,
	}
	for _, h := range o.holders {
		r.Holders = append(r.Holders, salvage.Holder(h))
	}
	for _, s := range o.shares {
		r.Shares = append(r.Shares, salvage.Share(s))
	}
	found, err := salvage.Take(r)
	if alien := (*salvage.AlienError)(nil); errors.As(err, &alien) {
		err = takenBy(alien.Socket, err)
	}
	if err != nil {
		return nil, err
	}
	p.sockets, p.meta = found.Sockets, heldMeta{Steering: found.Steering, Reason: found.Reason, Order: found.Order}
	return found.Strays, nil
}

// asError says which listener it is about, who is in the way and what to do.
func asError(c config.Listener, err error) error {
	var done *Error
	if errors.As(err, &done) {
		return err
	}
	e := &Error{Listener: c.Name, Address: address(c), Advice: advise(err, c), Err: err}
	var t *taken
	if errors.As(err, &t) {
		e.Holder, e.PID = t.holder, t.pid
	}
	var l *lingering
	if errors.As(err, &l) {
		e.Wait = max(l.wait, time.Second)
	}
	return e
}
