package master

import (
	"net"
	"strings"

	"go.uber.org/zap"

	"github.com/masterd/masterd/pkg/ipc"
	"github.com/masterd/masterd/pkg/master/config"
	"github.com/masterd/masterd/pkg/master/listen"
	"github.com/masterd/masterd/pkg/master/rollout"
)

// maxOrphans is how many connections whose worker is gone may wait for another
// to become active; more are closed.
const maxOrphans = 4096

// orphan is a client's connection found in the queue of a slot that nobody mans.
type orphan struct {
	listener string
	fd       int
}

// steer moves new connections, at once: it takes some tens of microseconds.
func (m *Master) steer(c rollout.Steer) {
	shares := make([]listen.Share, len(c.Shares))
	for i, s := range c.Shares {
		shares[i] = listen.Share{Slot: int(s.Slot), Weight: s.Weight}
	}
	if len(c.Shares) > 0 {
		m.pauseOthers(c.Shares)
	}
	if err := m.sockets.Steer(shares); err != nil {
		m.log.Error("steering", zap.Error(err))
		m.step(rollout.SteerFailed{Seq: c.Seq, Reason: err.Error()})
		return
	}
	m.shares = c.Shares
	m.log.Info("steered", zap.Any("shares", c.Shares))
	m.step(rollout.Steered{Seq: c.Seq})
	m.placeOrphans()
}

// pauseOthers is what steering means where all generations share one socket:
// those that are meant accept, and only then do the others pause.
func (m *Master) pauseOthers(shares []rollout.Share) {
	if len(m.sockets.Shared()) == 0 {
		return
	}
	for _, resume := range []bool{true, false} {
		for _, w := range m.workers {
			if w.session == nil || !w.handed || steeredTo(shares, w.slot) != resume || w.paused != resume {
				continue
			}
			tell := w.session.Pause
			if resume {
				tell = w.session.Resume
			}
			if err := tell(); err != nil {
				m.log.Warn("a worker cannot be told to pause or resume", append(m.fields(w), zap.Error(err))...)
				continue
			}
			w.paused = !resume
		}
	}
}

func steeredTo(shares []rollout.Share, s rollout.Slot) bool {
	for _, sh := range shares {
		if sh.Slot == s {
			return true
		}
	}
	return false
}

// takeOrphan is called by the sockets' watcher with a connection whose worker
// is gone.
func (m *Master) takeOrphan(listener string, fd int) {
	if !m.at(func() {
		if len(m.orphans) >= maxOrphans {
			m.log.Warn("too many connections wait for a worker; one is closed", zap.String("listener", listener), zap.Int("limit", maxOrphans))
			closeFD(fd)
			return
		}
		m.orphans = append(m.orphans, orphan{listener, fd})
		m.placeOrphans()
	}) {
		closeFD(fd)
	}
}

// placeOrphans gives waiting connections to a worker that is steered to, so
// that their clients are answered and not reset. Workers that do not speak the
// protocol cannot take them: then, and when nobody is alive, the master answers.
func (m *Master) placeOrphans() {
	rest := m.orphans[:0]
	for i, o := range m.orphans {
		w := m.servingWorker(i)
		switch {
		case w != nil:
			if err := w.session.Conn(o.listener, ipc.PurposeServe, o.fd); err != nil { // took the descriptor all the same
				m.log.Warn("a connection found in a queue cannot be passed on", append(m.fields(w), zap.Error(err))...)
			}
		case len(m.shares) == 0 && m.machine.Status().Active != 0 || m.foreign():
			m.answerFD(o)
		default:
			rest = append(rest, o)
		}
	}
	m.orphans = rest
}

// servingWorker picks the n-th of the workers that take connections by message.
func (m *Master) servingWorker(n int) *worker {
	var able []*worker
	for _, w := range m.workers {
		if w.session != nil && w.handed && w.process != nil && steeredTo(m.shares, w.slot) && w.session.Connected() {
			able = append(able, w)
		}
	}
	if len(able) == 0 {
		return nil
	}
	return able[n%len(able)]
}

// foreign: the workers cannot be passed connections.
func (m *Master) foreign() bool { return m.cfg.Worker.Kind != config.KindSDK }

// answerOwn takes a connection that came to the master's own slot: nobody is alive.
func (m *Master) answerOwn(l config.Listener, c net.Conn) {
	m.answers.Take(c, speaksHTTP(m.opt.Config, l.Name))
}

// speaksHTTP tells whether a 503 would be understood on this listener.
func speaksHTTP(c *config.Config, listener string) bool {
	if h := c.Health.HTTP; h != nil && h.Listener == listener {
		return h.Scheme == "http"
	}
	return strings.HasPrefix(listener, "http") && listener != "https"
}
