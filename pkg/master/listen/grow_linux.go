package listen

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/masterd/masterd/pkg/master/keeper"
	"github.com/masterd/masterd/pkg/master/listen/steer"
)

// Slots is how many slots can be assigned.
func (s *Set) Slots() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.o.Slots
}

// Grow makes slots up to this number available in every listener. A pool never
// shrinks, and no slot that is there moves: the new sockets come last in the
// kernel's array. On an error what is steered to is not disturbed, and it may be
// called again.
func (s *Set) Grow(slots int) error {
	s.opening.Lock() // so that no listener comes meanwhile that has fewer
	defer s.opening.Unlock()
	s.mu.Lock()
	have, all, closed := s.o.Slots, slices.Clone(s.listeners), s.closed
	s.mu.Unlock()
	switch {
	case closed:
		return errClosed
	case slots <= have:
		return nil
	case slots > maxSlots:
		return fmt.Errorf("a pool of %d slots is not possible, it has 1 to %d", slots, maxSlots)
	}
	made := map[*listener][]*socket{}
	defer func() { // what was not put in place
		for l, more := range made {
			l.closeSpare(more)
		}
	}()
	for _, l := range all {
		for i := len(l.assigned); i < slots && l.steering != shared; i++ {
			k, err := l.spare(i)
			if err != nil {
				return asError(l.conf, fmt.Errorf("adding slot %d: %w", i, err))
			}
			made[l] = append(made[l], k)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return errClosed
	}
	for _, l := range s.listeners {
		if err := s.extend(l, slots, made[l]); err != nil {
			return asError(l.conf, err)
		}
		delete(made, l)
	}
	s.o.Slots = slots
	return nil
}

// spare makes the socket of a slot that an open listener does not have yet. One of
// TCP does not listen.
func (l *listener) spare(i int) (*socket, error) {
	if l.conf.Network != "unix" {
		fd, err := freeSocket(l)
		if err != nil {
			return nil, err
		}
		return &socket{fd: fd, inode: steer.Inode(fd)}, nil
	}
	k := &socket{fd: -1, hidden: hiddenName(l.conf.Path, strconv.Itoa(i))}
	if err := claim(k.hidden); err != nil {
		return nil, err
	}
	if err := remove(k.hidden); err != nil {
		return nil, err
	}
	return k, l.bind(k)
}

// closeSpare closes sockets that were made and are not needed.
func (l *listener) closeSpare(sockets []*socket) {
	for _, k := range sockets {
		_ = unix.Shutdown(k.fd, unix.SHUT_RDWR)
		closeFD(k.fd)
		if k.hidden != "" {
			_ = remove(k.hidden)
		}
	}
}

// extend puts new slots in place, all or none.
func (s *Set) extend(l *listener, slots int, more []*socket) error {
	if len(l.assigned) >= slots {
		return nil // it has them since a call that failed for another listener
	}
	was, own := *l, l.own()
	l.assigned = append(slices.Clone(l.assigned), make([]bool, slots-len(l.assigned))...)
	if l.steering == shared {
		return nil
	}
	l.sockets = slices.Concat(l.sockets[:own], more, l.sockets[own:])
	l.order = l.order.Renamed(own, l.own())
	if l.front == own {
		l.front = l.own()
	}
	if err := s.listenMore(l, own); err != nil {
		// From the last one, so that none fills the hole of another.
		for _, k := range slices.Backward(more) {
			_ = unix.Shutdown(k.fd, unix.SHUT_RDWR)
		}
		*l = was
		return err
	}
	if k := l.sockets[l.own()]; k.token != 0 {
		s.tokens[k.token] = registration{l, l.own()}
	}
	// The order first: a next master takes a slot that is in it and not there for
	// lost, but cannot do with one that is there and not in the order.
	s.keep(l, l.own())
	for i := range more {
		s.keep(l, own+i)
	}
	s.attend(l)
	return nil
}

// listenMore lets the new slots from the first one listen, and puts them into the program.
func (s *Set) listenMore(l *listener, first int) error {
	for i := first; i < l.own(); i++ {
		if err := l.rejoin(i); err != nil {
			return fmt.Errorf("listening in slot %d: %w", i, err)
		}
	}
	if l.inherited {
		return nil // how it is steered is not known before the first Steer
	}
	return l.aim(l.mode, l.shares, l.sticky)
}

// slotsLeft is how many slots an earlier Set had, as far as it has left any of
// them. A slot that is only in the order was lost while the pool grew.
func slotsLeft(held []keeper.Held, holders []Holder) int {
	n := 0
	for _, h := range held {
		part, _ := parseHeld(h.Name)
		if i, err := strconv.Atoi(strings.TrimSuffix(part.socket, freshSuffix)); err == nil {
			n = max(n, i+1)
		}
		var m heldMeta
		if part.socket == heldOwn && json.Unmarshal(h.Meta, &m) == nil && len(m.Order) > 0 {
			n = max(n, slices.Max(m.Order)+1)
		}
	}
	for _, h := range holders {
		n = max(n, h.Slot+1)
	}
	return min(n, maxSlots)
}
