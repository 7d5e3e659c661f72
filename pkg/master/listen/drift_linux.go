package listen

import (
	"fmt"
	"slices"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/masterd/masterd/pkg/master/listen/steer"
	"github.com/masterd/masterd/pkg/master/sockdiag"
)

const (
	// driftInterval is how often slots are looked at. A shutdown is told of at
	// once and does not wait for it.
	driftInterval = time.Second
	// attachInterval is how often the steering programs are put in force anew:
	// what is attached cannot be read back, and a worker could replace it.
	attachInterval = 10 * time.Second
	// mendRounds bounds how often mending begins again because more fell.
	mendRounds = 8
)

// mendHangups repairs sockets that were shut down through some duplicate.
func (s *Set) mendHangups(tokens []int32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	s.hangups = append(s.hangups, tokens...)
	s.mendHungUp()
}

// mendHungUp looks into all hang-ups that were told.
func (s *Set) mendHungUp() {
	for len(s.hangups) > 0 {
		if r, ok := s.tokens[s.hangups[0]]; ok {
			s.mend(r.listener)
		} else {
			s.hangups = s.hangups[1:]
		}
	}
}

// mendDrift looks at what tells nobody.
func (s *Set) mendDrift(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	again := now.Sub(s.attached) >= attachInterval
	if again {
		s.attached = now
	}
	for _, l := range s.listeners {
		if l.conf.Network == "unix" {
			s.mendPath(l)
		} else {
			s.mendTCP(l)
		}
		if again && l.steering == kernel && !l.inherited {
			l.reattach(s.log)
		}
	}
	s.mendHungUp()
}

// mendTCP repairs sockets that were shut down (should a hang-up have been
// missed) and backlogs that a worker's own listen() has cut.
func (s *Set) mendTCP(l *listener) {
	missed := false
	for i, k := range l.sockets {
		if l.steering == kernel && i != l.own() && !l.assigned[i] {
			continue // nobody holds it
		}
		_, limit, listens := steer.Queue(k.fd)
		switch {
		case !listens:
			missed = true
		case limit < l.limit:
			l.drift++
			s.log.Info("a worker has cut the backlog of its slot; it is set again",
				zap.String("listener", l.conf.Name), zap.Int("slot", i), zap.Int("cut to", limit), zap.Int("backlog", l.limit))
			if err := unix.Listen(k.fd, l.conf.Backlog); err != nil {
				s.log.Error("setting a backlog again", zap.String("listener", l.conf.Name), zap.Int("slot", i), zap.Error(err))
			}
		}
	}
	if missed {
		s.mend(l)
	}
	s.straighten(l)
}

// mend lets sockets listen again that somebody shut down.
func (s *Set) mend(l *listener) {
	down := s.fallen(l)
	if len(down) == 0 {
		return
	}
	if l.conf.Network == "unix" {
		s.mendUnix(l, down)
	} else {
		l.suspect = true
		down = s.relisten(l, down)
	}
	for _, i := range down {
		l.sockets[i].fell = true
	}
	l.drift += uint64(len(down))
	s.log.Warn("slots were shut down by a worker; they are mended", zap.String("listener", l.conf.Name),
		zap.Ints("slots", down))
	s.abandon(l)
	s.keepOrder(l)
	s.attend(l)
}

// relisten lets sockets listen again, and follows the kernel's array. That
// takes care when more fall meanwhile: did one leave the array before the
// mended were back in it, or after? Both end alike when the mended are taken
// out once more, the last first.
func (s *Set) relisten(l *listener, down []int) []int {
	back := 0 // how many of down are in the array again
	fresh := down
	for range mendRounds {
		for _, i := range slices.Backward(l.order[len(l.order)-back:]) {
			_ = unix.Shutdown(l.sockets[i].fd, unix.SHUT_RDWR)
		}
		l.order = l.order[:len(l.order)-back]
		for _, i := range fresh {
			l.order.Leave(i)
		}
		back = 0
		for _, i := range down {
			if err := l.rejoin(i); err != nil {
				s.log.Error("a slot that was shut down cannot listen again", zap.String("listener", l.conf.Name),
					zap.Int("slot", i), zap.Error(err))
				if l.steering == kernel && i != l.own() {
					l.assigned[i] = false // it gets no more; Man tries again
				}
				continue
			}
			back++
		}
		fresh = slices.DeleteFunc(s.fallen(l), func(i int) bool { return slices.Contains(down, i) })
		if len(fresh) == 0 {
			break
		}
		down = append(down, fresh...)
	}
	return down
}

// rejoin lets a socket listen that does not.
func (l *listener) rejoin(i int) error {
	if err := unix.Listen(l.sockets[i].fd, l.conf.Backlog); err != nil {
		return err
	}
	if l.conf.Network != "unix" {
		l.order.Join(i)
	}
	return nil
}

// fallen finds the sockets that are shut down, in the order in which that
// happened as far as it was told.
func (s *Set) fallen(l *listener) []int {
	events := make([]unix.EpollEvent, eventBatch)
	for news := true; news; { // what else can be read is told again, and so are some hang-ups
		news = false
		n, _ := unix.EpollWait(s.watch.fd, events, 0)
		for _, e := range events[:max(n, 0)] {
			if e.Events&(unix.EPOLLHUP|unix.EPOLLERR) != 0 && !slices.Contains(s.hangups, e.Fd) {
				s.hangups = append(s.hangups, e.Fd)
				news = true
			}
		}
	}
	shut := l.shut()
	var down []int
	s.hangups = slices.DeleteFunc(s.hangups, func(t int32) bool {
		r, ok := s.tokens[t]
		if ok && r.listener != l {
			return false
		}
		if ok && shut[r.index] {
			down = append(down, r.index)
			shut[r.index] = false
		}
		return true
	})
	for i, is := range shut {
		if is {
			down = append(down, i)
		}
	}
	return down
}

// shut tells of each socket whether somebody has shut it down, through any
// duplicate, and it is not yet known to be lost.
func (l *listener) shut() []bool {
	shut := make([]bool, len(l.sockets))
	p := make([]unix.PollFd, len(l.sockets))
	for i, k := range l.sockets {
		p[i].Fd = int32(k.fd)
	}
	if _, err := unix.Poll(p, 0); err != nil {
		return shut
	}
	for i, k := range l.sockets {
		shut[i] = !k.broken && p[i].Revents&unix.POLLHUP != 0
	}
	return shut
}

// straightenAll is for what a takeover has left crooked: whoever has the sockets dies
// sooner or later, and its own must not wait for the next beat.
func (s *Set) straightenAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	for _, l := range s.listeners {
		s.straighten(l)
	}
}

// straighten makes the master's own socket the last one again: only then does
// a shutdown of another move no slot. Its queue would be reset, so that it has
// to be empty; nobody is steered there while others serve.
func (s *Set) straighten(l *listener) {
	own := l.own()
	if !l.crooked() || time.Since(l.aimed) < sockdiag.SettleTime {
		return
	}
	fd := l.sockets[own].fd
	if steer.Readable(fd) || slices.Contains(l.shut(), true) {
		return
	}
	// The last one moves into its place: clients who come before the program says so
	// are left to the kernel's hash. So it must be none that they are steered to.
	if l.inUse(l.order[len(l.order)-1]) {
		return
	}
	// Nor may what was left behind shut its own down in between: the one before would move.
	if l.suspect && (l.left() || len(l.order) > 1 && l.inUse(l.order[len(l.order)-2])) {
		return
	}
	if err := unix.Shutdown(fd, unix.SHUT_RDWR); err != nil {
		return
	}
	l.order.Leave(own)
	if err := l.rejoin(own); err != nil {
		s.log.Error("the master's own slot cannot listen again", zap.String("listener", l.conf.Name), zap.Error(err))
	}
	s.abandon(l)
	s.keepOrder(l)
	if slices.Contains(l.shut(), true) {
		s.mend(l)
	}
}

// left tells whether somebody may still have the socket of a slot that nobody mans.
func (l *listener) left() bool {
	for i, k := range l.sockets[:l.own()] {
		if !l.assigned[i] && k.owner != noOwner {
			return true
		}
	}
	return false
}

// crooked: its own socket is not the last, and could be.
func (l *listener) crooked() bool {
	return l.steering == kernel && len(l.order) > 0 && l.order[len(l.order)-1] != l.own() && l.mode == serving &&
		!l.inherited
}

// mendUnix gives up slots whose sockets were shut down: they cannot listen
// again, and get new ones when they are assigned the next time.
func (s *Set) mendUnix(l *listener, sockets []int) {
	for _, i := range sockets {
		k := l.sockets[i]
		k.broken = true
		s.ignore(k)
		if l.steering == link && i != l.own() {
			l.assigned[i] = false
			continue
		}
		if err := s.renewPath(l, i); err != nil {
			s.log.Error("a socket that was shut down cannot be replaced", zap.String("listener", l.conf.Name), zap.Error(err))
		}
	}
}

// mendAccess puts mode and group of the public path back: left as they are, they would
// change with each steering, as the next slot's socket has its own.
func (s *Set) mendAccess(l *listener, public file) {
	if !l.access.strayed(public) {
		l.strayed = false
		return
	}
	err := l.access.permitAt(l.conf.Path, public.id)
	if err != nil && l.strayed {
		return // it was said
	}
	l.strayed = err != nil
	l.drift++
	fields := []zap.Field{zap.String("listener", l.conf.Name), zap.String("path", l.conf.Path),
		zap.String("mode", fmt.Sprintf("%#o", l.access.mode)), zap.Int("gid", l.access.gid)}
	if err != nil {
		s.log.Error("the mode or the group of the socket's path was changed by hand and cannot be put back",
			append(fields, zap.Error(err))...)
		return
	}
	s.log.Warn("the mode or the group of the socket's path was changed by hand; it is put back: change it in the "+
		"configuration and reload", fields...)
}

// mendPath puts the public path back, and the backlog, which cannot be read.
func (s *Set) mendPath(l *listener) {
	if l.unknown {
		if l.identify() != nil {
			return // it was said
		}
		s.attend(l)
	}
	for i, k := range l.sockets {
		switch {
		case k.broken && i == l.own(): // a slot's is replaced when it is assigned again, this one never is
			s.mendUnix(l, []int{i})
			s.attend(l)
		case !k.broken && k.events == wantHangup:
			_ = unix.Listen(k.fd, l.conf.Backlog)
		}
	}
	if l.inherited {
		return
	}
	shown, public, err := l.shown()
	switch {
	case shown && !l.unsteered:
		s.mendAccess(l, public)
		return
	case err != nil:
		if !l.strayed {
			s.log.Error("the socket's path cannot be looked after, and is left as it is", zap.String("listener", l.conf.Name),
				zap.String("path", l.conf.Path), zap.Error(err))
		}
		l.strayed = true
		return
	case l.unsteered:
		s.log.Info("the socket's path can be looked after again", zap.String("listener", l.conf.Name),
			zap.String("path", l.conf.Path))
		l.strayed = false
		if err := l.aim(l.mode, l.shares, l.sticky); err != nil {
			s.log.Error("the socket's path cannot be put right", zap.String("listener", l.conf.Name), zap.Error(err))
		}
		return
	}
	l.drift++
	s.log.Warn("the socket's path was removed or replaced; it is put back", zap.String("listener", l.conf.Name),
		zap.String("path", l.conf.Path))
	if err := l.show(l.front); err != nil {
		s.log.Error("the socket's path cannot be put back", zap.String("listener", l.conf.Name), zap.Error(err))
	}
}
