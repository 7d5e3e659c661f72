package listen

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/masterd/masterd/pkg/ipc/fdpass"
	"github.com/masterd/masterd/pkg/master/config"
	"github.com/masterd/masterd/pkg/master/listen/steer"
)

// A socket is held by whoever has a descriptor of it, not by whom one gave it to:
// a worker's daemon in a session of its own keeps what the worker was given. So a
// slot that changes hands gets a fresh socket, for workers of every kind, and the
// one before is shut down. It is done at the end of a quarantine, when nothing of
// a client's can be in the old one.
//
// The order of the steps moves no live index:
//
//  1. The keeper holds the fresh socket, by a name that tells the next master how
//     far this one had come.
//  2. The fresh socket listens, and is the last of the kernel's array.
//  3. The old one is given to another user: whoever still has it cannot listen on
//     the port again, and so cannot come back to the array and to its steering.
//  4. The old one is shut down, and the last of the array takes its index. The
//     master's own socket stays the last of those that are left.
//
// Then a connection to the slot proves that the fresh socket is where it should be
// (prove_linux.go). A worker's options on a socket go with that socket.
//
// Only root may give a socket away. For everybody else, a process left behind that
// only accepts gets nothing more, but one that calls listen again gets connections;
// it runs as the master's own user.
//
// A Unix socket is bound anew under its hidden name, and one that was shut down
// never listens again.

const (
	// noOwner is that of a socket that nobody was ever given.
	noOwner uint64 = 0
	// unknownOwner is that of one which a master left that did not note it.
	unknownOwner = ^uint64(0)

	// freshSuffix is added to the name by which a fresh socket is held until it
	// has its place: who takes over can then tell how far it had come.
	freshSuffix = "+"
)

// strangers are users of which one is not the master: an old socket is given to it.
func strangers() []int { return []int{65534, 1} }

// Steps of a renewal, for tests that end the master after each.
const (
	stepHeld     = "the fresh one is held"
	stepListens  = "the fresh one listens"
	stepDisowned = "the old one is another user's"
	stepShut     = "the old one is shut down"
	stepKept     = "the fresh one has its name"
)

// assign makes a slot's socket a generation's: as it is if it was this
// generation's before, or nobody's, and a fresh one otherwise.
func (s *Set) assign(l *listener, slot int, generation uint64) error {
	s.mend(l) // before it listens again: what has fallen must be seen to have left its place
	if l.steering == shared {
		return s.unbreak(l, 0)
	}
	k := l.sockets[slot]
	switch {
	case k.broken:
	case k.owner == noOwner, k.owner == generation:
		s.own(l, slot, generation)
		return nil
	case k.owner == unknownOwner && steer.Readable(k.fd): // its own generation's clients may wait there
		s.own(l, slot, generation)
		return nil
	}
	if err := s.renew(l, slot); err != nil {
		return err
	}
	s.own(l, slot, generation)
	return nil
}

// unbreak binds a shared Unix socket anew that was shut down.
func (s *Set) unbreak(l *listener, i int) error {
	if !l.sockets[i].broken {
		return nil
	}
	return s.renew(l, i)
}

// own notes whose a slot's socket is from now on.
func (s *Set) own(l *listener, slot int, generation uint64) {
	if l.steering == shared || l.sockets[slot].owner == generation {
		return
	}
	l.sockets[slot].owner = generation
	s.keep(l, slot)
}

// renew puts a fresh socket in the place of i, which nobody is steered to. Whoever
// still has the old one gets nothing more by it. On an error everything is as
// before.
func (s *Set) renew(l *listener, i int) error {
	fail := func(err error) error {
		return fmt.Errorf("giving slot %d of listener %s a fresh socket: %w", i, l.conf.Name, err)
	}
	if l.conf.Network == "unix" {
		if err := s.renewPath(l, i); err != nil {
			return fail(err)
		}
		return nil
	}
	s.mend(l) // so that the order is known
	fd, err := freeSocket(l)
	if err != nil {
		return fail(err)
	}
	fresh := &socket{fd: fd, inode: steer.Inode(fd)}
	if err := s.replace(l, i, fresh, func() error { return unix.Listen(fd, l.conf.Backlog) }); err != nil {
		return fail(err)
	}
	// A program that a holder has attached is not in force any more.
	if l.steering == kernel && !l.inherited {
		l.reattach(s.log)
	}
	return nil
}

// renewPath is renew for a Unix socket.
func (s *Set) renewPath(l *listener, i int) error {
	fd, err := steer.Stream(unix.AF_UNIX)
	if err != nil {
		return err
	}
	fresh := &socket{fd: fd, hidden: l.sockets[i].hidden}
	err = s.replace(l, i, fresh, func() error {
		if err := remove(fresh.hidden); err != nil {
			return err
		}
		return l.bindTo(fresh)
	})
	if err != nil {
		l.sockets[i].broken = true // its name may be gone
		return err
	}
	if l.front == i {
		return l.show(i)
	}
	return nil
}

// replace has a fresh socket listen and shuts the old one down, in steps of which
// the next master can tell the last (finish). The fresh one is closed on an error.
func (s *Set) replace(l *listener, i int, fresh *socket, begin func() error) error {
	old := l.sockets[i]
	waiting := l.freshName(i)
	s.o.Keeper.Put(waiting, nil, fresh.fd)
	s.step(stepHeld)
	if err := begin(); err != nil {
		s.o.Keeper.Drop(waiting)
		closeFD(fresh.fd)
		return err
	}
	s.step(stepListens)
	s.ignore(old) // an epoll outlives a descriptor that was duplicated
	disown(old.fd)
	s.step(stepDisowned)
	_ = unix.Shutdown(old.fd, unix.SHUT_RDWR)
	s.step(stepShut)
	if l.conf.Network != "unix" {
		l.order.Join(i) // the fresh one was the last, and fills the hole
	}
	l.sockets[i] = fresh
	s.keepOrder(l)
	s.keep(l, i)
	s.step(stepKept)
	s.o.Keeper.Drop(waiting)
	fdpass.Discard(old.fd) // a worker may have connected it since
	return nil
}

// freeSocket is one bound to the listener's address, which may be no interface's
// at the moment: the sockets that are bound there already do not mind either.
func freeSocket(l *listener) (int, error) {
	fd, err := steer.Bind(l.addr, l.dual, l.steering == kernel)
	if !errors.Is(err, unix.EADDRNOTAVAIL) {
		return fd, err
	}
	return steer.BindFree(l.addr, l.dual, l.steering == kernel)
}

// disown gives a socket to another user, so that nobody can listen on it again
// while ours do. It takes root; without, the shutdown has to do.
func disown(fd int) {
	for _, uid := range strangers() {
		if uid == unix.Geteuid() {
			continue
		}
		if err := unix.Fchown(fd, uid, -1); err == nil || errors.Is(err, unix.EPERM) {
			return
		}
	}
}

// step is where a test may end the master.
func (s *Set) step(after string) {
	if s.system.step != nil {
		s.system.step(after)
	}
}

// ownerOf reads whose a slot's socket was.
func ownerOf(meta []byte) uint64 {
	var h heldSlot
	if len(meta) == 0 || json.Unmarshal(meta, &h) != nil {
		return unknownOwner
	}
	return h.Owner
}

// finish brings renewals to their end in which the last master has died. A fresh
// socket that listens takes its place; one that does not has changed nothing yet,
// but for a Unix socket's name.
func (p *pool) finish(c config.Listener, fresh map[string]int) {
	for slot, fd := range fresh {
		old, there := p.sockets[slot]
		if on, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN); err != nil || on == 0 {
			p.broken[slot] = c.Network == "unix"
			closeFD(fd)
			continue
		}
		if there && steer.Inode(old) != steer.Inode(fd) {
			disown(old)
			_ = unix.Shutdown(old, unix.SHUT_RDWR)
		}
		if there {
			fdpass.Discard(old)
		}
		p.sockets[slot], p.owners[slot] = fd, noOwner
		if i, err := strconv.Atoi(slot); err == nil && len(p.meta.Order) > 0 {
			p.meta.Order.Join(i)
		}
	}
}
