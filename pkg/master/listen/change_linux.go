package listen

import (
	"errors"
	"slices"

	"go.uber.org/zap"

	"github.com/masterd/masterd/pkg/master/config"
)

// Add opens listeners, all or none; one that is open already is given its new
// name, mode, group and backlog. The address is what a listener is: a new one under the
// same name is a new listener beside the old one, until Retain.
func (s *Set) Add(ls []config.Listener) error {
	s.opening.Lock()
	defer s.opening.Unlock()
	opener := opener{system: s.system, slots: s.o.Slots, log: s.log, held: s.held, holders: s.holders,
		shares: s.o.Shares, sticky: s.o.Sticky, given: s.given, desert: s.desert, mine: map[uint64]string{}}
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return errClosed
	}
	existing := slices.Clone(s.listeners)
	s.mu.Unlock()
	for _, l := range existing {
		opener.know(l)
	}

	var opened []*listener
	fail := func(err error) error {
		for _, l := range opened {
			if l.inherited {
				l.leaveSockets() // others serve there
			} else {
				l.close()
			}
		}
		return err
	}
	var others []config.Listener
	groups := make([]access, 0, len(ls))
	for _, c := range ls {
		if find(existing, c) == nil {
			l, err := opener.open(c)
			if err != nil {
				return fail(err)
			}
			opener.know(l)
			opened = append(opened, l)
			continue
		}
		who, err := accessOf(c) // may ask a directory server: not under the lock
		if err != nil {
			return fail(asError(c, err))
		}
		others, groups = append(others, c), append(groups, who)
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.change(others, groups); err != nil {
		return fail(err)
	}
	s.listeners = append(s.listeners, opened...)
	for _, l := range opened {
		s.attend(l)
		what := "listening"
		if l.inherited {
			what = "listening goes on"
		}
		s.keepAll(l)
		for _, name := range l.dropped {
			s.o.Keeper.Drop(name)
		}
		l.dropped = nil
		s.log.Info(what, zap.String("listener", l.conf.Name), zap.String("address", address(l.conf)),
			zap.String("at", l.at()),
			zap.String("steering", l.steering), zap.String("reason", l.reason))
	}
	s.watch.wake() // it had perhaps nothing to look after
	return nil
}

// Settle gives those of these listeners that are open the mode, group and
// backlog that they have here: an Add for what did not come into force may have
// changed them.
func (s *Set) Settle(ls []config.Listener) error {
	s.opening.Lock()
	defer s.opening.Unlock()
	all := make([]access, len(ls))
	for i, c := range ls {
		var err error
		if all[i], err = accessOf(c); err != nil {
			return asError(c, err)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return errClosed
	}
	var open []config.Listener
	var groups []access
	for i, c := range ls {
		if find(s.listeners, c) != nil {
			open, groups = append(open, c), append(groups, all[i])
		}
	}
	return s.change(open, groups)
}

// change gives open listeners what changed, all or none.
func (s *Set) change(cs []config.Listener, groups []access) error {
	var undo []func() error
	for i, c := range cs {
		l := find(s.listeners, c)
		err := error(&Error{Listener: c.Name, Address: address(c), Err: errRetained})
		if l != nil {
			s.mend(l) // as in assign
			before, group := l.conf, l.access
			undo = append(undo, func() error { return l.change(before, group) })
			err = l.change(c, groups[i])
		}
		if err != nil {
			err = asError(c, err)
			for _, u := range undo {
				err = errors.Join(err, u())
			}
			return err
		}
	}
	return nil
}

// errRetained: a listener was closed in the middle of an Add that wanted it.
var errRetained = errors.New("the listener was closed just now; try again")

// find finds a listener that is open.
func find(ls []*listener, c config.Listener) *listener {
	for _, l := range ls {
		if identify(l.conf) == identify(c) {
			return l
		}
	}
	return nil
}

// Retain closes every listener that is not among these. What still waits in
// their queues is lost: it is for after the drain of those who served them.
func (s *Set) Retain(ls []config.Listener) {
	keep := map[identity]bool{}
	for _, c := range ls {
		keep[identify(c)] = true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	s.listeners = slices.DeleteFunc(s.listeners, func(l *listener) bool {
		if keep[identify(l.conf)] {
			return false
		}
		s.drop(l)
		s.log.Info("no longer listening", zap.String("listener", l.conf.Name), zap.String("address", address(l.conf)))
		return true
	})
}

// drop closes a listener. The watcher must forget its sockets first: an epoll
// outlives a descriptor that was duplicated.
func (s *Set) drop(l *listener) {
	for _, k := range l.sockets {
		s.ignore(k)
	}
	s.forget(l)
	l.close()
}
