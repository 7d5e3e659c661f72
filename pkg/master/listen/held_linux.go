package listen

import (
	"encoding/json"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/masterd/masterd/pkg/master/config"
	"github.com/masterd/masterd/pkg/master/keeper"
	"github.com/masterd/masterd/pkg/master/listen/steer"
)

// The sockets of a Set can be held by another process beside it. When the
// master dies they stay open there, and with them what waits in their queues,
// the order of the pool and the program that steers; the next Set takes them
// over and changes nothing until it is told to steer.

// What stands for the master's own socket in names and in the order.
const (
	heldOwn      = steer.Own
	heldOwnOrder = steer.OwnOrder
)

// heldMeta is kept with a listener's own socket.
type heldMeta struct {
	Steering string `json:"steering"`
	Reason   string `json:"reason,omitempty"`
	// Order is the kernel's array, by slots; heldOwnOrder is the master's own
	// socket. It can be had from nowhere else.
	Order steer.Array `json:"order,omitempty"`
	Given bool        `json:"given,omitempty"` // it is the service manager's
}

// heldSlot is kept with a slot's socket.
type heldSlot struct {
	Owner uint64 `json:"owner"` // the generation that was given it; zero: none
}

// heldName is how a socket of a listener is called.
func heldName(c config.Listener, socket string) string {
	return HeldPrefix + c.Name + "/" + socket + "/" + c.Network + "/" + heldAt(c)
}

// heldAt is a listener's address as names have it.
func heldAt(c config.Listener) string {
	if c.Network == "unix" {
		return c.Path
	}
	return net.JoinHostPort(c.Host, strconv.Itoa(c.Port))
}

// heldParts are the parts of such a name. No listener's name has a slash in it, and a
// path is last.
type heldParts struct{ listener, socket, network, at string }

func parseHeld(name string) (p heldParts, ok bool) {
	parts := strings.SplitN(strings.TrimPrefix(name, HeldPrefix), "/", 4)
	if len(parts) != 4 {
		return p, false
	}
	return heldParts{parts[0], parts[1], parts[2], parts[3]}, true
}

// of tells whether it is a socket at a listener's address.
func (p heldParts) of(c config.Listener) bool { return p.network == c.Network && p.at == heldAt(c) }

func (l *listener) heldName(i int) string { return heldName(l.keptAs(), l.part(i)) }

// keptAs is the listener by the name under which it is held: the one that it had when
// it was opened. That in force may be another by now.
func (l *listener) keptAs() config.Listener {
	c := l.conf
	if l.heldAs == "" {
		l.heldAs = c.Name
	}
	c.Name = l.heldAs
	return c
}

// wasHeld is a listener by the name that it had when its sockets were first held.
func wasHeld(held map[string]keeper.Held, c config.Listener) config.Listener {
	if c.Network != "unix" && c.Port == 0 {
		return c
	}
	for name := range held {
		if was, ok := parseHeld(name); ok && was.of(c) {
			c.Name = was.listener
			break
		}
	}
	return c
}

// freshName is that of a socket which is to take i's place.
func (l *listener) freshName(i int) string { return heldName(l.keptAs(), l.part(i)+freshSuffix) }

// part is what stands for a socket in its names.
func (l *listener) part(i int) string {
	if i == l.own() {
		return heldOwn
	}
	return strconv.Itoa(i)
}

// meta is what is kept with a socket.
func (l *listener) meta(i int) (meta []byte) {
	if i == l.own() {
		m := heldMeta{Steering: l.steering, Reason: l.reason, Order: l.order.Kept(i), Given: l.given}
		meta, _ = json.Marshal(m) // of strings and numbers: it cannot fail
		return meta
	}
	meta, _ = json.Marshal(heldSlot{l.sockets[i].owner})
	return meta
}

// keep has sockets of a listener held: they are there, or are other ones now, or in
// another order: that is kept with the master's own.
func (s *Set) keep(l *listener, sockets ...int) {
	for _, i := range sockets {
		s.o.Keeper.Put(l.heldName(i), l.meta(i), l.sockets[i].fd)
	}
	l.kept = slices.Clone(l.order)
}

// keepAll tells of a listener that was opened.
func (s *Set) keepAll(l *listener) {
	all := make([]int, len(l.sockets))
	for i := range all {
		all[i] = i
	}
	s.keep(l, all...)
}

// forget tells that a listener is no more.
func (s *Set) forget(l *listener) {
	for i := range l.sockets {
		s.o.Keeper.Drop(l.heldName(i))
	}
}

// keepOrder tells of a new order, if there is one.
func (s *Set) keepOrder(l *listener) {
	if !slices.Equal(l.kept, l.order) {
		s.keep(l, l.own())
	}
}

// Assigned makes a slot a worker's that holds its sockets in the named listeners
// already: one that an earlier Set gave them to.
func (s *Set) Assigned(slot int, names []string, generation uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.check(slot); err != nil {
		return fmt.Errorf("taking over slot %d: %w", slot, err)
	}
	for _, name := range names {
		l := s.named(name, slot)
		if l == nil {
			return fmt.Errorf("taking over slot %d: there is no listener %s", slot, name)
		}
		l.assigned[slot] = true
		s.own(l, slot, generation)
		s.attend(l)
	}
	return nil
}

// Leave ends the Set and leaves everything as it is, for the next one to take
// over: no socket is shut down, no path is removed.
func (s *Set) Leave() error { return s.end((*listener).leaveSockets) }

// leaveSockets closes this process's descriptors.
func (l *listener) leaveSockets() {
	l.closeStrays()
	for _, k := range l.sockets {
		if k.fd >= 0 {
			closeFD(k.fd)
		}
	}
}
