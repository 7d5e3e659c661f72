package listen

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/masterd/masterd/pkg/master/config"
	"github.com/masterd/masterd/pkg/master/trust"
)

// The sockets of a Set can be held by another process beside it. When the
// master dies they stay open there, and with them what waits in their queues,
// the order of the pool and the program that steers; the next Set takes them
// over and changes nothing until it is told to steer.

// heldOwn is the part of a name that stands for the master's own socket, and for
// the one of a shared listener.
const heldOwn = "own"

// heldOwnOrder stands for it in the order: its index changes with the number of slots.
const heldOwnOrder = -1

// heldMeta is kept with a listener's own socket.
type heldMeta struct {
	Steering string `json:"steering"`
	Reason   string `json:"reason,omitempty"`
	// Order is the kernel's array, by slots; heldOwnOrder is the master's own
	// socket. It can be had from nowhere else.
	Order []int `json:"order,omitempty"`
	Given bool  `json:"given,omitempty"` // it is the service manager's
}

// heldSlot is kept with a slot's socket.
type heldSlot struct {
	Owner uint64 `json:"owner"` // the generation that was given it; zero: none
}

// heldName is how a socket of a listener is called.
func heldName(c config.Listener, socket string) string {
	at := c.Path
	if c.Network != "unix" {
		at = net.JoinHostPort(c.Host, strconv.Itoa(c.Port))
	}
	return HeldPrefix + c.Name + "/" + socket + "/" + c.Network + "/" + at
}

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
func wasHeld(held map[string]Held, c config.Listener) config.Listener {
	if c.Network != "unix" && c.Port == 0 {
		return c
	}
	for name := range held {
		was, _, ok := strings.Cut(strings.TrimPrefix(name, HeldPrefix), "/")
		then := c
		then.Name = was
		if at := heldName(then, ""); ok && strings.HasPrefix(name, HeldPrefix+was+"/") && strings.HasSuffix(name, strings.TrimPrefix(at, HeldPrefix+was+"/")) {
			return then
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

// held is a socket as it is kept.
func (l *listener) held(i int) Held {
	h := Held{Name: l.heldName(i), FD: l.sockets[i].fd}
	if i == l.own() {
		m := heldMeta{Steering: l.steering, Reason: l.reason, Order: slices.Clone(l.order), Given: l.given}
		if at := slices.Index(m.Order, i); at >= 0 {
			m.Order[at] = heldOwnOrder
		}
		h.Meta, _ = json.Marshal(m) // of strings and numbers: it cannot fail
		return h
	}
	h.Meta, _ = json.Marshal(heldSlot{l.sockets[i].owner})
	return h
}

// keep tells that sockets of a listener are there, or are other ones now, or in
// another order: that is kept with the master's own.
func (s *Set) keep(l *listener, sockets ...int) {
	if s.o.Keep == nil {
		return
	}
	for _, i := range sockets {
		s.o.Keep(l.held(i))
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
		if s.o.Drop != nil {
			s.o.Drop(l.heldName(i))
		}
	}
}

// keepOrder tells of a new order, if there is one.
func (s *Set) keepOrder(l *listener) {
	if !slices.Equal(l.kept, l.order) {
		s.keep(l, l.own())
	}
}

// KeepAgain tells of all sockets once more: who held them has been replaced.
func (s *Set) KeepAgain() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	for _, l := range s.listeners {
		s.keepAll(l)
	}
}

// Manned makes a slot a worker's that holds its sockets in the named listeners
// already: one that an earlier Set gave them to.
func (s *Set) Manned(slot int, names []string, generation uint64) error {
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
		l.manned[slot] = true
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
func takePool(held map[string]Held, c config.Listener) (p pool, err error) {
	p.sockets, p.owners, p.broken = map[string]int{}, map[string]uint64{}, map[string]bool{}
	c = wasHeld(held, c)
	p.as = c.Name
	fresh := map[string]int{}
	waiting := func(part string) {
		if h, ok := held[heldName(c, part+freshSuffix)]; ok {
			fresh[part] = h.FD
			p.done, p.names = append(p.done, h.Name), append(p.names, h.Name)
			delete(held, h.Name)
		}
	}
	for i := range maxSlots {
		slot := strconv.Itoa(i)
		if h, ok := held[heldName(c, slot)]; ok {
			p.sockets[slot], p.owners[slot] = h.FD, ownerOf(h.Meta)
			p.names = append(p.names, h.Name)
			delete(held, h.Name)
		}
		waiting(slot)
	}
	waiting(heldOwn)
	defer func() { p.finish(c, fresh) }()
	own, ok := held[heldName(c, heldOwn)]
	if !ok {
		return p, nil
	}
	delete(held, own.Name)
	p.sockets[heldOwn], p.names = own.FD, append(p.names, own.Name)
	if err := json.Unmarshal(own.Meta, &p.meta); err != nil {
		return p, fmt.Errorf("reading how it was steered: %w", err)
	}
	return p, nil
}

func (p pool) has(fd int) bool {
	for _, have := range p.sockets {
		if have == fd {
			return true
		}
	}
	return false
}

// fits tells whether the sockets can be those of a listener.
func (p pool) fits(family, slots int) error {
	for name, fd := range p.sockets {
		if i, err := strconv.Atoi(name); err == nil && i >= slots {
			return fmt.Errorf("a socket is of slot %d, and there are %d: processes were taken away while no master was there", i, slots)
		}
		if got, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN); err != nil || got != family {
			return fmt.Errorf("socket %s is of family %d and not %d: %w", name, got, family, errors.Join(err, unix.EAFNOSUPPORT))
		}
	}
	return nil
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
	s.log.Error("the sockets that an earlier master has left cannot be taken over, and nobody serves from them: the listener is opened anew, and who waits there is lost",
		zap.String("listener", c.Name), zap.String("address", address(c)), zap.Error(why))
	for _, fd := range p.sockets {
		_ = unix.Shutdown(fd, unix.SHUT_RDWR) // also for whoever else has it
	}
	p.close()
	for _, name := range p.names {
		if s.o.Drop != nil {
			s.o.Drop(name)
		}
	}
	return true
}

// fromPool makes a listener of sockets that are there. On an error they stay open.
func (o opener) fromPool(c config.Listener, p pool) (l *listener, err error) {
	l = &listener{
		conf: c, heldAs: p.as, system: o.system, manned: make([]bool, o.slots), inherited: true,
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
	if err := p.fits(family, n-1); err != nil {
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
			l.sockets[i] = &socket{fd: fd, inode: inodeOf(fd), owner: owner, broken: p.broken[name]}
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
	if l.addr, err = boundTo(own); err != nil {
		return err
	}
	family := family(l.addr)
	if family == unix.AF_INET6 {
		only, err := unix.GetsockoptInt(own, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY)
		if err != nil {
			return fmt.Errorf("asking for IPV6_V6ONLY: %w", err)
		}
		l.dual = only == 0 && l.addr.Addr().IsUnspecified()
	}
	if l.baseline, err = freshBaseline(family); err != nil {
		return err
	}
	var made []int
	err = o.inherit(l, p, family, func(i int) (*socket, error) {
		fd, err := boundSocket(l.addr, l.dual, true)
		if err != nil {
			return nil, err
		}
		made = append(made, i)
		return &socket{fd: fd, inode: inodeOf(fd)}, nil
	})
	if err != nil {
		return err
	}
	_, l.limit, _ = tcpQueue(own)
	return l.inheritOrder(p.meta.Order, made)
}

// inheritOrder: the new sockets come behind those that are there. What has
// fallen meanwhile is found by its hang-up.
func (l *listener) inheritOrder(order, made []int) error {
	if l.steering == shared {
		l.order = []int{0}
		return nil
	}
	for _, i := range order {
		if i == heldOwnOrder {
			i = l.own()
		}
		if i < 0 || i > l.own() || slices.Contains(l.order, i) {
			return fmt.Errorf("the order of the slots %v is not one of %d sockets", order, len(l.sockets))
		}
		l.order = append(l.order, i)
	}
	for i, k := range l.sockets {
		if _, _, listens := tcpQueue(k.fd); listens && !slices.Contains(l.order, i) {
			return fmt.Errorf("the socket of slot %d listens and is not in the order %v", i, order)
		}
	}
	for _, i := range made { // what was there in its place is lost
		l.leave(i)
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

// freshBaseline is that of a socket no worker has had.
func freshBaseline(family int) (baseline, error) {
	fd, err := streamSocket(family)
	if err != nil {
		return baseline{}, err
	}
	defer unix.Close(fd)
	return takeBaseline(fd), nil
}

func (o opener) takeOverUnix(l *listener, p pool) (err error) {
	if l.access, err = accessOf(l.conf); err != nil {
		return err
	}
	err = o.inherit(l, p, unix.AF_UNIX, func(i int) (*socket, error) {
		k := &socket{fd: -1, hidden: l.hiddenName(i, l.own())}
		if err := remove(k.hidden); err != nil {
			return nil, err
		}
		return k, l.bind(k)
	})
	if err != nil {
		return err
	}
	l.front = -1
	public, _ := identifyFile(l.conf.Path)
	for i, k := range l.sockets {
		k.hidden = l.hiddenName(i, l.own())
		f, err := identifyFile(k.hidden)
		if _, ok := errors.AsType[trust.Refused](err); ok {
			return err
		}
		if err != nil || f.kind != unix.S_IFSOCK || k.broken {
			k.broken = true // nobody could be led to it again; its next worker gets a new one
			continue
		}
		if k.file = f.id; f.id == public.id {
			l.front = i
		}
	}
	if l.front < 0 {
		l.front = l.own() // the path was taken away: it is put back
	}
	return nil
}
