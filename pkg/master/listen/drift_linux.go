package listen

import (
	"slices"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

const (
	// driftInterval is how often slots are looked at. A shutdown is told of at
	// once and does not wait for it.
	driftInterval = time.Second
	// attachInterval is how often the steering programs are put in force anew:
	// what is attached cannot be read back, and a worker could replace it.
	attachInterval = 10 * time.Second
)

// mendHangups repairs sockets that were shut down through some duplicate, in
// the order in which it happened.
func (s *Set) mendHangups(tokens []int32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	down := map[*listener][]int{}
	for _, t := range tokens {
		if r, ok := s.tokens[t]; ok {
			down[r.listener] = append(down[r.listener], r.index)
		}
	}
	for l, sockets := range down {
		s.mend(l, sockets)
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
		if again && l.steering == kernel {
			if err := l.system.attach(l.sockets[l.own()].fd, l.program(l.shares)); err != nil {
				s.log.Error("steering cannot be put in force again", zap.String("listener", l.conf.Name), zap.Error(err))
			}
		}
	}
}

// mendTCP repairs sockets that were shut down (should a hang-up have been
// missed) and backlogs that a worker's own listen() has cut.
func (s *Set) mendTCP(l *listener) {
	var down []int
	for i, k := range l.sockets {
		if l.steering == kernel && i != l.own() && !l.manned[i] {
			continue // nobody holds it
		}
		_, limit, listens := tcpQueue(k.fd)
		switch {
		case !listens:
			down = append(down, i)
		case limit < l.limit:
			l.drift++
			s.log.Info("a worker has cut the backlog of its slot; it is set again",
				zap.String("listener", l.conf.Name), zap.Int("slot", i), zap.Int("cut to", limit), zap.Int("backlog", l.limit))
			if err := unix.Listen(k.fd, l.conf.Backlog); err != nil {
				s.log.Error("setting a backlog again", zap.String("listener", l.conf.Name), zap.Int("slot", i), zap.Error(err))
			}
		}
	}
	if len(down) > 0 {
		s.mend(l, down)
	}
	s.straighten(l)
}

// mend lets sockets listen again.
func (s *Set) mend(l *listener, sockets []int) {
	sockets = slices.DeleteFunc(sockets, func(i int) bool { return l.sockets[i].broken || !isShut(l.sockets[i].fd) })
	if len(sockets) == 0 {
		return
	}
	l.drift += uint64(len(sockets))
	s.log.Warn("slots were shut down by a worker; they are mended", zap.String("listener", l.conf.Name), zap.Ints("slots", sockets))
	if l.conf.Network == "unix" {
		s.mendUnix(l, sockets)
		return
	}
	for _, i := range sockets {
		l.leave(i)
	}
	for _, i := range sockets {
		if err := unix.Listen(l.sockets[i].fd, l.conf.Backlog); err != nil {
			s.log.Error("a slot that was shut down cannot listen again", zap.String("listener", l.conf.Name), zap.Int("slot", i), zap.Error(err))
			continue
		}
		l.order = append(l.order, i)
	}
	if l.steering != kernel {
		return
	}
	for _, i := range sockets { // one that does not listen has no index: nobody is steered there
		if !slices.Contains(l.order, i) {
			l.order = append(l.order, i)
			if i != l.own() {
				l.manned[i] = false
			}
		}
	}
	s.abandon(l)
	s.attend(l)
}

// leave is what the kernel does with its array when a socket stops listening:
// the last one fills the hole.
func (l *listener) leave(socket int) {
	at := slices.Index(l.order, socket)
	if at < 0 {
		return
	}
	last := len(l.order) - 1
	l.order[at] = l.order[last]
	l.order = l.order[:last]
}

// straighten makes the master's own socket the last one again: only then does
// a shutdown of another move no slot. Its queue would be reset, so that it has
// to be empty; nobody is steered there while others serve.
func (s *Set) straighten(l *listener) {
	own := l.own()
	if l.steering != kernel || l.order[len(l.order)-1] == own || l.mode != serving {
		return
	}
	k := l.sockets[own]
	if readable(k.fd) {
		return
	}
	s.ignore(k) // this hang-up is ours
	if err := unix.Shutdown(k.fd, unix.SHUT_RDWR); err != nil {
		s.attend(l)
		return
	}
	l.leave(own)
	if err := unix.Listen(k.fd, l.conf.Backlog); err != nil {
		s.log.Error("the master's own slot cannot listen again", zap.String("listener", l.conf.Name), zap.Error(err))
	}
	l.order = append(l.order, own)
	s.abandon(l)
	s.attend(l)
}

// mendUnix gives up slots whose sockets were shut down: they cannot listen
// again, and get new ones when they are manned the next time.
func (s *Set) mendUnix(l *listener, sockets []int) {
	for _, i := range sockets {
		k := l.sockets[i]
		k.broken = true
		s.ignore(k)
		if l.steering == link && i != l.own() {
			l.manned[i] = false
			continue
		}
		if err := l.rebind(k); err != nil {
			s.log.Error("a socket that was shut down cannot be replaced", zap.String("listener", l.conf.Name), zap.Error(err))
		}
	}
	s.abandon(l)
	s.attend(l)
}

// mendPath puts the public path back, and the backlog, which cannot be read.
func (s *Set) mendPath(l *listener) {
	for _, k := range l.sockets {
		if !k.broken && k.events == wantHangup {
			_ = unix.Listen(k.fd, l.conf.Backlog)
		}
	}
	if l.shown() {
		return
	}
	l.drift++
	s.log.Warn("the socket's path was removed or replaced; it is put back", zap.String("listener", l.conf.Name), zap.String("path", l.conf.Path))
	if err := l.show(l.front); err != nil {
		s.log.Error("the socket's path cannot be put back", zap.String("listener", l.conf.Name), zap.Error(err))
	}
}
