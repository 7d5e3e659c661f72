package listen

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/pkg/master/config"
	"github.com/masterd/masterd/pkg/master/keeper"
	"github.com/masterd/masterd/pkg/master/sockdiag"
)

// Set is all listeners of a service. Its methods are safe for use from several
// goroutines.
type Set struct {
	o      Options
	log    *zap.Logger
	system system
	watch  *poller
	done   chan struct{} // closed when the watcher has ended

	// opening keeps Add and Close from each other. It is taken before mu.
	opening sync.Mutex
	earlier // only while Open is under way

	// mu guards what follows. It is a lock and not a goroutine that is asked,
	// as Steer must not wait for its turn on a busy machine. Nothing that waits
	// for anybody is done under it, but for the keeper, and no function of Options is called.
	mu         sync.Mutex
	closed     bool
	listeners  []*listener               // oldest first
	names      map[int][]config.Listener // by slot
	tokens     map[int32]registration
	lastToken  int32
	hangups    []int32 // told, and not yet looked into
	quarantine map[int]*quarantine
	starved    time.Time // no descriptors to accept with: nothing is accepted before this
	attached   time.Time // when the programs were last put in force without a reason
	blind      bool      // it was logged that handshakes cannot be counted
}

// earlier is what there is of an earlier Set and of the service manager.
type earlier struct {
	held     map[string]keeper.Held
	holders  []Holder
	given    map[string]int
	deserted bool
}

// Open opens all listeners. If one cannot be had none is opened, nothing is
// disturbed, and the error, an [*Error], says which, why, and who has it.
func Open(o Options) (*Set, error) { return open(o, host()) }

func open(o Options, sys system) (*Set, error) {
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	if o.Keeper == nil {
		o.Keeper = keeper.Nobody{}
	}
	o.Slots = max(o.Slots, slotsLeft(o.Held, o.Holders))
	if o.Slots < 1 || o.Slots > maxSlots {
		return nil, fmt.Errorf("opening the listeners: a pool of %d slots is not possible, it has 1 to %d", o.Slots, maxSlots)
	}
	p, err := newPoller()
	if err != nil {
		return nil, fmt.Errorf("opening the listeners: %w", err)
	}
	s := &Set{
		o: o, log: o.Log, system: sys, watch: p, done: make(chan struct{}),
		names: map[int][]config.Listener{}, tokens: map[int32]registration{}, quarantine: map[int]*quarantine{},
		attached: time.Now(),
		earlier:  earlier{map[string]keeper.Held{}, o.Holders, map[string]int{}, o.Deserted},
	}
	for _, h := range o.Held {
		s.held[h.Name] = h
	}
	for _, g := range o.Given {
		if _, twice := s.given[g.Name]; twice {
			s.log.Warn("the service manager gives two sockets of one name; one is used", zap.String("name", g.Name))
			closeFD(g.FD)
			continue
		}
		s.given[g.Name] = g.FD
	}
	defer s.forgetGiven()
	if err := s.Add(o.Listeners); err != nil {
		for _, h := range s.held {
			closeFD(h.FD)
		}
		_ = p.Close()
		return nil, err
	}
	for _, h := range s.held {
		s.log.Warn("a socket is let go that an earlier master has left and no listener needs", zap.String("name", h.Name))
		closeFD(h.FD)
		o.Keeper.Drop(h.Name)
	}
	s.held, s.holders, s.deserted = nil, nil, false
	go s.run()
	return s, nil
}

// forgetGiven closes what was given and is not needed: it is held already since
// an earlier start, or it is nobody's.
func (s *Set) forgetGiven() {
	for name, fd := range s.given {
		if s.named(name, -1) == nil {
			s.log.Warn("the service manager gives a socket whose name is no listener's; it is not used",
				zap.String("name", name))
		}
		closeFD(fd)
	}
	s.given = nil
}

// Close ends all listeners, also where workers still hold their sockets, and
// waits for the watcher. Unix paths that are still ours are removed. It must
// not be called from a function of Options.
func (s *Set) Close() error {
	return s.end(func(l *listener) {
		s.forget(l)
		l.close()
	})
}

// end stops the watcher, and does the rest to each listener.
func (s *Set) end(each func(*listener)) error {
	s.opening.Lock()
	defer s.opening.Unlock()
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	s.watch.wake()
	s.mu.Unlock()
	<-s.done
	for _, l := range s.listeners { // the watcher is gone, and the others see closed
		each(l)
	}
	if err := s.watch.Close(); err != nil {
		return fmt.Errorf("closing the sockets' watcher: %w", err)
	}
	return nil
}

// errClosed answers every call after Close.
var errClosed = errors.New("the listeners are closed")

// Man makes a slot a worker's in the named listeners, and gives its sockets to
// be handed over, in the order of the names: as new, with the backlog that is
// configured. It ends a quarantine. It may be called again for a second worker
// of the same slot and generation; another generation never gets a socket that
// this one was given. Of two listeners with one name it takes the newer, unless
// the slot is assigned in the older.
func (s *Set) Man(slot int, names []string, generation uint64) ([]File, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.check(slot); err != nil {
		return nil, fmt.Errorf("manning slot %d: %w", slot, err)
	}
	var mine []*listener
	var files []File
	fail := func(err error) ([]File, error) {
		for _, f := range files {
			closeFD(f.FD)
		}
		return nil, fmt.Errorf("manning slot %d: %w", slot, err)
	}
	for _, name := range names {
		l := s.named(name, slot)
		if l == nil {
			return fail(fmt.Errorf("there is no listener %s", name))
		}
		err := s.assign(l, slot, generation)
		if err == nil {
			err = l.tune(slot)
		}
		s.keepOrder(l)
		s.attend(l)
		if err != nil {
			return fail(err)
		}
		fd, err := duplicate(l.socketOf(slot).fd)
		if err != nil {
			return fail(err)
		}
		mine, files = append(mine, l), append(files, File{Name: name, FD: fd, Held: l.heldBeside(slot)})
	}
	delete(s.quarantine, slot)
	for _, l := range mine {
		l.assigned[slot] = true
		s.attend(l)
	}
	return files, nil
}

// Name says what the workers of a slot call the listeners: a generation goes by the
// names of its own configuration, and another may have given one another name.
func (s *Set) Name(slot int, ls []config.Listener) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.names[slot] = slices.Clone(ls)
}

// named finds a listener by its name: what the slot's workers call so, else the one
// that the slot mans, else the newest.
func (s *Set) named(name string, slot int) *listener {
	for _, c := range s.names[slot] {
		if c.Name == name {
			if l := find(s.listeners, c); l != nil {
				return l
			}
		}
	}
	var found *listener
	for _, l := range s.listeners {
		if l.conf.Name != name {
			continue
		}
		if slot >= 0 && l.assigned[slot] {
			return l
		}
		found = l
	}
	return found
}

// Steer sends new connections to these slots, by weight, and to no others. It
// takes some tens of microseconds. In each listener only the slots that are
// assigned there count, and one in which none of them is assigned is steered as
// before. Each listener changes in one instant; on an error all are steered as
// before.
//
// sticky is the salt by which a client's address decides whether it is the canary's: at
// one weight each client meets one side only, and who has met the canary stays with it at
// every higher weight. Zero: each connection draws among all shares.
//
// No shares: nobody is alive, and connections go to Own.
func (s *Set) Steer(shares []Share, sticky uint32) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, sh := range shares {
		if err := s.check(sh.Slot); err != nil {
			return fmt.Errorf("steering to slot %d: %w", sh.Slot, err)
		}
		if sh.Weight == 0 {
			return fmt.Errorf("steering to slot %d: its weight is zero", sh.Slot)
		}
	}
	if s.closed {
		return errClosed
	}
	type was struct {
		*listener
		mode   mode
		shares []Share
		sticky uint32
	}
	var done []was
	for _, l := range s.listeners {
		mine, m := l.ofAssigned(shares), serving
		switch {
		case len(shares) == 0:
			m = answering
		case len(mine) == 0:
			continue
		}
		before := was{l, l.mode, l.shares, l.sticky}
		if err := l.aim(m, mine, sticky); err != nil {
			for _, w := range done {
				err = errors.Join(err, w.aim(w.mode, w.shares, w.sticky))
			}
			return err
		}
		done = append(done, before)
	}
	for _, w := range done {
		if w.listener.mode != w.mode {
			s.attend(w.listener)
			s.watch.wake() // what an earlier master has left may be put in order now
		}
	}
	return nil
}

// check refuses a slot that is not there.
func (s *Set) check(slot int) error {
	if s.closed {
		return errClosed
	}
	if slot < 0 || slot >= s.o.Slots {
		return fmt.Errorf("slots are 0 to %d", s.o.Slots-1)
	}
	return nil
}

// Shared names the listeners of which all workers hold the same socket: there,
// steering is asking workers to pause and to resume.
func (s *Set) Shared() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var names []string
	for _, l := range s.listeners {
		if l.steering == shared && !slices.Contains(names, l.conf.Name) {
			names = append(names, l.conf.Name)
		}
	}
	return names
}

// Status tells of each listener how it is steered and what waits there.
func (s *Set) Status() []api.Listener {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	all := make([]api.Listener, len(s.listeners))
	var unix []unixSocket
	for i, l := range s.listeners {
		all[i] = l.status()
		if l.conf.Network != "unix" {
			continue
		}
		for k, socket := range l.sockets {
			unix = append(unix, unixSocket{i, socket.inode, l.inUse(k)})
		}
	}
	s.mu.Unlock()
	for _, u := range unix {
		length, limit, err := sockdiag.UnixQueue(u.inode)
		if err != nil {
			continue // closed just now, or not to be known here
		}
		all[u.of].Queue += length
		if u.inUse {
			all[u.of].QueueLimit += limit
		}
	}
	return all
}

// unixSocket is one whose queue is asked for.
type unixSocket struct {
	of    int // which listener
	inode uint64
	inUse bool
}

// Addr is where a listener can be reached: "127.0.0.1:8080" or a path; empty
// when there is none of that name. The port is the real one when the
// configured one was zero.
func (s *Set) Addr(name string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if l := s.named(name, -1); l != nil {
		return l.at()
	}
	return ""
}

// ProbeDial makes a connection that reaches exactly this slot of a listener,
// whatever the steering: a check of one worker. A shared listener has no
// slots: there it reaches whichever worker accepts it.
func (s *Set) ProbeDial(ctx context.Context, slot int, name string) (net.Conn, error) {
	s.mu.Lock()
	err := s.check(slot)
	var l listener
	if found := s.named(name, slot); err == nil && found != nil {
		l = *found // what dial needs of it never changes, but for the sockets
		l.sockets = slices.Clone(found.sockets)
	}
	s.mu.Unlock()
	switch {
	case err != nil:
		return nil, fmt.Errorf("connecting to slot %d of listener %s: %w", slot, name, err)
	case l.sockets == nil:
		return nil, fmt.Errorf("connecting to slot %d: there is no listener %s", slot, name)
	}
	c, err := l.dial(ctx, slot)
	if err != nil {
		return nil, fmt.Errorf("connecting to slot %d of listener %s: %w", slot, name, err)
	}
	return c, nil
}
