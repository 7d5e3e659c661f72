package listen

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"syscall"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/masterd/masterd/pkg/ipc/fdpass"
	"github.com/masterd/masterd/pkg/master/config"
	"github.com/masterd/masterd/pkg/master/listen/steer"
	"github.com/masterd/masterd/pkg/master/sockdiag"
)

const (
	// acceptBatch is how many connections are accepted from one socket before
	// the lock is given up.
	acceptBatch = 16
	// eventBatch is how many sockets are told of at once.
	eventBatch = 64
	// starvedPause is how long nothing is accepted when there is no descriptor
	// to do it with; the connections wait in their queues.
	starvedPause = 100 * time.Millisecond
)

// What is wanted of a socket. Hang-ups are always told, once each: a assigned
// slot that a worker shuts down.
const (
	wantHangup = unix.EPOLLET & 0xffffffff
	wantAccept = unix.EPOLLIN
)

// poller is an epoll that itself is waited for by the Go runtime: no thread
// sits in it, and a deadline wakes it.
type poller struct {
	file *os.File
	raw  syscall.RawConn
	fd   int
}

func newPoller() (*poller, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("making an epoll: %w", err)
	}
	if err := unix.SetNonblock(fd, true); err != nil { // or the runtime would not wait for it
		_ = unix.Close(fd)
		return nil, fmt.Errorf("making an epoll non-blocking: %w", err)
	}
	f := os.NewFile(uintptr(fd), "epoll")
	raw, err := f.SyscallConn()
	if err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("watching an epoll: %w", err)
	}
	return &poller{file: f, raw: raw, fd: fd}, nil
}

// wake ends a wait.
func (p *poller) wake() { _ = p.file.SetReadDeadline(time.Now()) }

// until says when the next wait ends though nothing happens; zero: never.
func (p *poller) until(t time.Time) { _ = p.file.SetReadDeadline(t) }

// wait returns how many events there are; none when it was woken.
func (p *poller) wait(events []unix.EpollEvent) int {
	n := 0
	_ = p.raw.Read(func(fd uintptr) bool {
		var err error
		n, err = unix.EpollWait(int(fd), events, 0)
		return n > 0 || err != nil && !errors.Is(err, unix.EINTR)
	})
	return max(n, 0)
}

func (p *poller) Close() error { return p.file.Close() }

// registration is what a token stands for.
type registration struct {
	listener *listener
	index    int // of the socket
}

// attend makes the watcher want what it should of a listener's sockets.
func (s *Set) attend(l *listener) {
	for i, k := range l.sockets {
		if k.broken {
			s.ignore(k)
			continue
		}
		want := uint32(wantHangup)
		listens := l.conf.Network == "unix" || slices.Contains(l.order, i) // or it would be told of for ever
		if l.accepts(i) && listens && s.starved.IsZero() {
			want = wantAccept
			if k.events != want {
				// A worker may have cleared it, and is gone: our accept must not block.
				if err := steer.Nonblock(k.fd); err != nil {
					s.log.Error("a slot that nobody mans cannot be watched", zap.String("listener", l.conf.Name), zap.Error(err))
					want = wantHangup
				}
			}
		}
		if k.token != 0 && k.events == want {
			continue
		}
		op := unix.EPOLL_CTL_MOD
		if k.token == 0 {
			op = unix.EPOLL_CTL_ADD
			s.lastToken++
			k.token = s.lastToken
			s.tokens[k.token] = registration{l, i}
		}
		k.events = want
		if err := unix.EpollCtl(s.watch.fd, op, k.fd, &unix.EpollEvent{Events: want, Fd: k.token}); err != nil {
			s.log.Error("a slot cannot be watched", zap.String("listener", l.conf.Name), zap.Int("slot", i), zap.Error(err))
		}
	}
}

// ignore makes the watcher forget a socket.
func (s *Set) ignore(k *socket) {
	if k.token == 0 {
		return
	}
	_ = unix.EpollCtl(s.watch.fd, unix.EPOLL_CTL_DEL, k.fd, nil)
	delete(s.tokens, k.token)
	k.token, k.events = 0, 0
}

// run is the watcher: it accepts what nobody else will, ends quarantines and
// mends drift.
func (s *Set) run() {
	defer close(s.done)
	s.deliverStrays()
	events := make([]unix.EpollEvent, eventBatch)
	beat := time.Now().Add(driftInterval)
	for {
		s.mu.Lock()
		if s.closed {
			s.mu.Unlock()
			return
		}
		next := s.nextDue(beat)
		s.watch.until(next)
		s.mu.Unlock()

		n := s.watch.wait(events)
		var hangups []int32
		for _, e := range events[:n] {
			if e.Events&(unix.EPOLLHUP|unix.EPOLLERR) != 0 {
				hangups = append(hangups, e.Fd)
				continue
			}
			s.acceptFrom(e.Fd)
		}
		if len(hangups) > 0 {
			s.mendHangups(hangups)
		}
		now := time.Now()
		s.endStarvation(now)
		s.lookAtQuarantines(now)
		s.straightenAll()
		if !now.Before(beat) {
			s.mendDrift(now)
			beat = now.Add(driftInterval)
		}
	}
}

// nextDue is when the watcher has something to do of itself.
func (s *Set) nextDue(beat time.Time) time.Time {
	var next time.Time
	sooner := func(t time.Time) {
		if !t.IsZero() && (next.IsZero() || t.Before(next)) {
			next = t
		}
	}
	if len(s.listeners) > 0 {
		sooner(beat)
	}
	sooner(s.starved)
	for _, l := range s.listeners {
		if due := l.aimed.Add(sockdiag.SettleTime); l.crooked() && time.Now().Before(due) {
			sooner(due) // later when its queue is not empty then: what empties it wakes
		}
	}
	for _, q := range s.quarantine {
		sooner(q.next)
	}
	return next
}

// arrival is a connection that was accepted here.
type arrival struct {
	conf config.Listener
	fd   int
	own  bool // nobody is alive
}

// acceptFrom accepts a batch from a socket that nobody mans, and passes it on.
// What is left makes the next wait return at once.
func (s *Set) acceptFrom(token int32) {
	s.mu.Lock()
	r, ok := s.tokens[token]
	var got []arrival
	if ok && !s.closed && r.listener.accepts(r.index) {
		got = s.accept(r.listener, r.listener.sockets[r.index])
	}
	s.mu.Unlock()
	for _, a := range got {
		s.deliver(a)
	}
}

func (s *Set) accept(l *listener, k *socket) []arrival {
	var got []arrival
	for range acceptBatch {
		fd, _, err := steer.Accept(k.fd)
		switch {
		case err == nil:
			got = append(got, arrival{l.conf, fd, l.mode == answering})
			continue
		case errors.Is(err, unix.EMFILE), errors.Is(err, unix.ENFILE),
			errors.Is(err, unix.ENOBUFS), errors.Is(err, unix.ENOMEM):
			s.starve(err)
			return got
		case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINVAL): // empty, or shut down: the hang-up is told apart
			return got
		}
		// One client's fault: it went away while it waited, or its network did.
	}
	return got
}

// starve stops accepting for a moment: without a descriptor a connection stays
// in the queue, and the socket would be told of again and again.
func (s *Set) starve(err error) {
	s.log.Error("connections to slots that nobody mans cannot be accepted for the moment; they wait",
		zap.Duration("pause", starvedPause), zap.Error(err))
	s.starved = time.Now().Add(starvedPause)
	for _, l := range s.listeners {
		s.attend(l)
	}
}

func (s *Set) endStarvation(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.starved.IsZero() || now.Before(s.starved) {
		return
	}
	s.starved = time.Time{}
	for _, l := range s.listeners {
		s.attend(l)
	}
}

// deliverStrays passes on what was found at a takeover.
func (s *Set) deliverStrays() {
	s.mu.Lock()
	var got []arrival
	for _, l := range s.listeners {
		for _, fd := range l.strays {
			got = append(got, arrival{conf: l.conf, fd: fd})
		}
		l.strays = nil
	}
	s.mu.Unlock()
	for _, a := range got {
		s.deliver(a)
	}
}

// deliver gives a connection to whom it is for.
func (s *Set) deliver(a arrival) {
	switch {
	case !a.own && s.o.Orphan != nil:
		s.o.Orphan(a.conf, a.fd)
	case a.own && s.o.Own != nil:
		c, err := fdpass.ConnOf(a.fd)
		if err != nil {
			s.log.Warn("a client's connection is lost", zap.String("listener", a.conf.Name), zap.Error(err))
			return
		}
		s.o.Own(a.conf, c)
	default:
		fdpass.DiscardConn(a.fd)
	}
}

func closeFD(fd int) { _ = unix.Close(fd) }
