package listen

import (
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/masterd/masterd/pkg/master/config"
)

// opener opens listeners.
type opener struct {
	system system
	slots  int
	log    *zap.Logger
	mine   map[uint64]string // names of our listeners, by their sockets' inodes
	held   map[string]Held   // what an earlier Set has left
	// holders have what it has left where nobody held it beside it.
	holders []Holder
	shares  []Share                                         // what they were steered to, as far as is known
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

// asError says which listener it is about, who is in the way and what to do.
func asError(c config.Listener, err error) error {
	var done *Error
	if errors.As(err, &done) {
		return err
	}
	e := &Error{Listener: c.Name, Address: address(c), Advice: advise(err, c), Err: err}
	var t *taken
	if errors.As(err, &t) {
		e.Holder = t.holder
	}
	var l *lingering
	if errors.As(err, &l) {
		e.Wait = max(l.wait, time.Second)
	}
	return e
}
