package notify

import (
	"errors"
	"fmt"
	"os"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/masterd/masterd/pkg/ipc/fdpass"
)

// listen hears one worker until its socket is closed. It reads faster than it
// passes on: a sender must not wait for the master's loop.
func (s *socket) listen(log *zap.Logger) {
	log = log.With(zap.Uint64("worker", s.worker.ID), zap.Int("worker_pid", s.leader))
	var told time.Time
	tell := func(what string, fields ...zap.Field) {
		if time.Since(told) >= toldEvery {
			told = time.Now()
			log.Warn(what, fields...)
		}
	}
	hears, reads := newBucket(perSecond, burst), newBucket(readPerSecond, readPerSecond)
	var merged *Message // what came faster than it is passed on
	pass := func(m Message, fds []int) {
		hears.take()
		s.worker.Hear(m, fds)
	}
	flush := func() {
		if merged != nil {
			pass(*merged, nil)
			merged = nil
			s.behind.Store(false)
		}
	}
	defer flush()
	for {
		var until time.Time // zero: what may take as long as it likes
		if merged != nil {
			if hears.wait() <= 0 {
				flush()
			} else {
				until = time.Now().Add(hears.wait())
			}
		}
		_ = s.conn.SetReadDeadline(until)
		select {
		case <-s.over: // the deadline may have been the one that ends the read
			return
		default:
		}
		m, fds, err := s.next()
		var refused *refusal
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			continue
		case errors.As(err, &refused):
			tell("what a worker says by sd_notify is refused", zap.String("why", refused.why))
		case err != nil:
			return
		default:
			if len(m.Problems) > 0 {
				tell("what a worker says by sd_notify is not all understood", zap.Strings("problems", m.Problems))
			}
			switch {
			case merged == nil && hears.wait() <= 0:
				pass(m, fds)
			case m.mergeable():
				if merged == nil {
					tell("a worker says more by sd_notify than is passed on; what it says is merged",
						zap.Int("messages a second", perSecond))
					merged = &Message{}
					s.behind.Store(true)
				}
				*merged = merged.merge(m)
			default: // it has its place in the order; bounded by perSecond
				if merged != nil {
					time.Sleep(hears.wait())
					flush()
				}
				time.Sleep(hears.wait())
				pass(m, fds)
			}
		}
		reads.take()
		if pause := reads.wait(); pause > 0 {
			tell("a worker says more by sd_notify than is read; it waits", zap.Int("messages a second", readPerSecond))
			time.Sleep(pause) // bounded, and so is what waits in the socket
		}
	}
}

// bucket paces something: so many at once, then so many a second.
type bucket struct {
	each time.Duration // one more may go after it
	most time.Duration // of unused time that is kept
	full time.Time     // when all that was taken has been earned
}

func newBucket(perSecond, burst int) *bucket {
	each := time.Second / time.Duration(perSecond)
	return &bucket{each: each, most: each * time.Duration(burst-1)}
}

// wait is how long the next one has to wait; not positive: it need not.
func (b *bucket) wait() time.Duration { return max(time.Until(b.full), 0) - b.most }

func (b *bucket) take() {
	if now := time.Now(); b.full.Before(now) {
		b.full = now
	}
	b.full = b.full.Add(b.each)
}

// refusal is about one message.
type refusal struct{ why string }

func (r *refusal) Error() string { return r.why }

// next takes one message from the socket.
func (s *socket) next() (Message, []int, error) {
	buf := make([]byte, maxMessage+1)
	oob := make([]byte, unix.CmsgSpace(unix.SizeofUcred)+unix.CmsgSpace(4)+unix.CmsgSpace(4*MaxFDs))
	n, oobn, flags, _, err := s.conn.ReadMsgUnix(buf, oob)
	if err != nil {
		return Message{}, nil, err
	}
	from := fdpass.ParseControl(oob[:oobn])
	fds, cred, another := from.FDs, from.Cred, another(from)
	refuse := func(why string) (Message, []int, error) {
		fdpass.DiscardWait(s.over, fds...)
		return Message{}, nil, &refusal{why}
	}
	switch {
	case flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0 || n > maxMessage:
		return refuse(fmt.Sprintf("it is longer than %d bytes, or was cut", maxMessage))
	case cred == nil:
		return refuse("nobody knows who said it")
	case another:
		return refuse(fmt.Sprintf("process %d, which said it, has ended, and another process has its number by now",
			cred.Pid))
	case !s.may(*cred):
		return refuse(fmt.Sprintf("process %d (uid %d) may not speak for the worker; worker.notify_access, and its own "+
			"NOTIFYACCESS, say who may", cred.Pid, cred.Uid))
	}
	m, err := Parse(buf[:n], len(fds))
	if err != nil {
		return refuse(err.Error())
	}
	if m.Access != "" {
		if granted := s.worker.granted(m.Access); granted != m.Access {
			m.Problems = append(m.Problems, fmt.Sprintf("NOTIFYACCESS: %s is more than worker.notify_access allows; it "+
				"stays %s", m.Access, s.access.get()))
			m.Access = ""
		} else {
			s.access.set(granted)
		}
	}
	if !m.Store && !m.Barrier && len(fds) > 0 {
		fdpass.DiscardWait(s.over, fds...)
		fds = nil
		m.Problems = append(m.Problems, "descriptors came with it that nothing was said of")
	}
	return m, fds, nil
}

// granted is as much of an access as the configuration allows; all that it allows
// where nothing was asked for.
func (w Worker) granted(a Access) Access {
	switch {
	case a == AccessNone, a == AccessMain:
		return a
	case w.Group:
		return AccessAll
	}
	return AccessMain
}
