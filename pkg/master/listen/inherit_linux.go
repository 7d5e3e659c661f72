package listen

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/masterd/masterd/pkg/master/config"
	"github.com/masterd/masterd/pkg/master/keeper"
	"github.com/masterd/masterd/pkg/master/listen/steer"
)

// pool is what an earlier Set left of a listener.
type pool struct {
	meta    heldMeta
	sockets map[string]int // descriptors, by the middle part of their names
	owners  map[string]uint64
	broken  map[string]bool // Unix sockets that no name leads to
	done    []string        // names of what was held and is not to be any more
	names   []string        // that they are held by
	as      string          // what the listener is called there
}

// takePool takes what is held of a listener out of the table.
func takePool(held map[string]keeper.Held, c config.Listener) (p pool, err error) {
	p.sockets, p.owners, p.broken = map[string]int{}, map[string]uint64{}, map[string]bool{}
	c = wasHeld(held, c)
	p.as = c.Name
	fresh := map[string]int{}
	defer func() { p.finish(c, fresh) }()
	for name, h := range held {
		part, ok := parseHeld(name)
		if !ok || part.listener != c.Name || !part.of(c) {
			continue
		}
		socket, waits := strings.CutSuffix(part.socket, freshSuffix)
		if i, nan := strconv.Atoi(socket); socket != heldOwn && (nan != nil || i < 0 || i >= maxSlots ||
			strconv.Itoa(i) != socket) {
			continue
		}
		p.names = append(p.names, name)
		delete(held, name)
		switch {
		case waits:
			fresh[socket] = h.FD
			p.done = append(p.done, name)
		case socket == heldOwn:
			p.sockets[socket] = h.FD
			if bad := json.Unmarshal(h.Meta, &p.meta); bad != nil {
				err = fmt.Errorf("reading how it was steered: %w", bad)
			}
		default:
			p.sockets[socket], p.owners[socket] = h.FD, ownerOf(h.Meta)
		}
	}
	return p, err
}

func (p pool) has(fd int) bool {
	for _, have := range p.sockets {
		if have == fd {
			return true
		}
	}
	return false
}

func (p pool) close() {
	for _, fd := range p.sockets {
		closeFD(fd)
	}
}

// takeOver makes a listener of what an earlier Set left of it. Nothing is bound,
// and nothing is steered until Steer. nil: nothing is left of it. On an error
// nothing is changed: who holds the sockets serves on.
func (o opener) takeOver(c config.Listener) (*listener, error) {
	p, err := takePool(o.held, c)
	var strays []int
	if _, ok := p.sockets[heldOwn]; err == nil && !ok {
		if strays, err = o.salvage(c, &p); err != nil {
			return nil, err
		}
	}
	if len(p.sockets) == 0 {
		return nil, nil
	}
	var l *listener
	if err == nil {
		l, err = o.fromPool(c, p)
	}
	if err != nil && o.desert(c, p, err) {
		return nil, nil
	}
	if err != nil {
		p.close()
		for _, fd := range strays {
			closeFD(fd)
		}
		return nil, fmt.Errorf("taking over the sockets that an earlier master has left: %w", err)
	}
	l.strays, l.dropped = strays, p.done
	return l, nil
}

// desert gives up what an earlier Set has left of a listener, if nobody serves from
// it. What waits in its queues is lost; so it was before.
func (s *Set) desert(c config.Listener, p pool, why error) bool {
	if !s.deserted {
		return false
	}
	s.log.Error("the sockets that an earlier master has left cannot be taken over, and nobody serves from them: the "+
		"listener is opened anew, and who waits there is lost",
		zap.String("listener", c.Name), zap.String("address", address(c)), zap.Error(why))
	for _, fd := range p.sockets {
		_ = unix.Shutdown(fd, unix.SHUT_RDWR) // also for whoever else has it
	}
	p.close()
	for _, name := range p.names {
		s.o.Keeper.Drop(name)
	}
	return true
}

// fromPool makes a listener of sockets that are there. On an error they stay open.
func (o opener) fromPool(c config.Listener, p pool) (l *listener, err error) {
	l = &listener{
		conf: c, heldAs: p.as, system: o.system, assigned: make([]bool, o.slots), inherited: true,
		steering: p.meta.Steering, reason: p.meta.Reason, given: p.meta.Given,
	}
	switch {
	case c.Network == "unix" && (l.steering == link || l.steering == shared):
		err = o.takeOverUnix(l, p)
	case c.Network != "unix" && (l.steering == kernel || l.steering == shared):
		err = o.takeOverTCP(l, p)
	default:
		err = fmt.Errorf("it was steered by %q, which this masterd does not know", l.steering)
	}
	if err == nil {
		return l, nil
	}
	for _, k := range l.sockets {
		if k != nil && !p.has(k.fd) {
			closeFD(k.fd) // made for a slot that was not held
		}
	}
	return nil, err
}

// inherit puts the sockets that were held in their places, and has the others made.
func (o opener) inherit(l *listener, p pool, family int, missing func(i int) (*socket, error)) error {
	n := o.slots + 1
	if l.steering == shared {
		n = 1
	}
	if err := steer.Fits(p.sockets, family, n-1); err != nil {
		return err
	}
	l.sockets = make([]*socket, n)
	for i := range n {
		name := strconv.Itoa(i)
		if i == n-1 {
			name = heldOwn
		}
		if fd, ok := p.sockets[name]; ok {
			owner, known := p.owners[name]
			if !known {
				owner = unknownOwner
			}
			l.sockets[i] = &socket{fd: fd, inode: steer.Inode(fd), owner: owner, broken: p.broken[name]}
			continue
		}
		k, err := missing(i)
		if err != nil {
			return err
		}
		l.sockets[i] = k
	}
	return nil
}

func (o opener) takeOverTCP(l *listener, p pool) (err error) {
	own := p.sockets[heldOwn]
	if l.addr, err = steer.Address(own); err != nil {
		return err
	}
	family := steer.Family(l.addr)
	if family == unix.AF_INET6 {
		only, err := unix.GetsockoptInt(own, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY)
		if err != nil {
			return fmt.Errorf("asking for IPV6_V6ONLY: %w", err)
		}
		l.dual = only == 0 && l.addr.Addr().IsUnspecified()
	}
	if l.baseline, err = steer.FreshBaseline(family); err != nil {
		return err
	}
	var made []int
	err = o.inherit(l, p, family, func(i int) (*socket, error) {
		fd, err := steer.Bind(l.addr, l.dual, true)
		if err != nil {
			return nil, err
		}
		made = append(made, i)
		return &socket{fd: fd, inode: steer.Inode(fd)}, nil
	})
	if err != nil {
		return err
	}
	_, l.limit, _ = steer.Queue(own)
	return l.inheritOrder(p.meta.Order, made)
}

// inheritOrder: the new sockets come behind those that are there. What has
// fallen meanwhile is found by its hang-up.
func (l *listener) inheritOrder(order, made []int) error {
	if l.steering == shared {
		l.order = []int{0}
		return nil
	}
	var err error
	if l.order, err = steer.ReadArray(order, l.own()); err != nil {
		return err
	}
	for i, k := range l.sockets {
		if _, _, listens := steer.Queue(k.fd); listens && l.order.Index(i) < 0 {
			return fmt.Errorf("the socket of slot %d listens and is not in the order %v", i, order)
		}
	}
	for _, i := range made { // what was there in its place is lost
		l.order.Leave(i)
	}
	// The last one takes the place of the master's own socket when that goes behind
	// all others again (straighten). It is to be the first that the next generation
	// gets: the more sockets without a worker are before one with, the longer is the
	// moment in which clients meet them should all of this be closed again.
	if len(made) > 1 {
		made = append(slices.Clone(made[1:]), made[0])
	}
	for _, i := range made {
		if err := l.rejoin(i); err != nil {
			return fmt.Errorf("listening in slot %d: %w", i, err)
		}
	}
	return nil
}

func (o opener) takeOverUnix(l *listener, p pool) (err error) {
	if l.access, err = accessOf(l.conf); err != nil {
		return err
	}
	err = o.inherit(l, p, unix.AF_UNIX, func(i int) (*socket, error) {
		k := &socket{fd: -1, hidden: l.hiddenName(i, l.own())}
		err := remove(k.hidden)
		if err == nil {
			err = l.bind(k)
		}
		if untrusted(err) { // its next worker gets one that can be bound, once that is mended
			k.broken = true
			k.fd, err = steer.Stream(unix.AF_UNIX)
		}
		return k, err
	})
	if err != nil {
		return err
	}
	for i, k := range l.sockets {
		k.hidden = l.hiddenName(i, l.own())
	}
	l.front, l.unknown = l.own(), true
	if err := l.identify(); err != nil { // whoever serves there serves on
		o.log.Error("the socket's path cannot be looked after, and is left as it is", zap.String("listener", l.conf.Name),
			zap.String("path", l.conf.Path), zap.Error(err))
	}
	return nil
}
