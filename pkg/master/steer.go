package master

import (
	"net"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/masterd/masterd/pkg/ipc"
	"github.com/masterd/masterd/pkg/master/answer"
	"github.com/masterd/masterd/pkg/master/config"
	"github.com/masterd/masterd/pkg/master/listen"
	"github.com/masterd/masterd/pkg/master/rollout"
)

const (
	// maxOrphans is how many connections whose worker is gone may wait for
	// another to become active; more are closed.
	maxOrphans = 4096
	// placeAgain is when those are tried again for whom no worker had room.
	placeAgain = 5 * time.Millisecond
)

// orphan is a client's connection that no worker took: found in the queue of a
// slot that nobody mans, or come while nobody was alive.
type orphan struct {
	listener config.Listener
	fd       int
	since    time.Time
}

// steer moves new connections, at once: it takes some tens of microseconds.
func (m *Master) steer(c rollout.Steer) {
	shares := sharesOf(c.Shares)
	if len(c.Shares) > 0 {
		m.pauseOthers(c.Shares)
	}
	if err := m.sockets.Steer(shares); err != nil {
		m.log.Error("steering", zap.Error(err))
		m.step(rollout.SteerFailed{Seq: c.Seq, Reason: err.Error()})
		return
	}
	before := m.shares
	m.shares, m.nobody = c.Shares, len(c.Shares) == 0
	if len(c.Shares) == 0 {
		for _, s := range before {
			m.abandon(s.Slot)
		}
	}
	m.log.Info("steered", zap.Any("shares", c.Shares))
	m.step(rollout.Steered{Seq: c.Seq})
	m.placeOrphans()
}

func sharesOf(all []rollout.Share) []listen.Share {
	shares := make([]listen.Share, len(all))
	for i, s := range all {
		shares[i] = listen.Share{Slot: int(s.Slot), Weight: s.Weight}
	}
	return shares
}

// abandon: nobody is alive, and the master answers. So it does to those who
// wait in the queue of a slot that was steered to before, unless somebody mans
// it who may yet serve them.
func (m *Master) abandon(slot rollout.Slot) {
	for _, w := range m.workers {
		// Workers that do not speak the protocol have theirs from their start.
		if w.slot == slot && (w.handed || w.session == nil) {
			return
		}
	}
	m.sockets.Quarantine(int(slot))
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
func (m *Master) takeOrphan(l config.Listener, fd int) {
	m.post(func() { m.adoptOrphan(l, fd) }, func() { ipc.DiscardConn(fd) })
}

// takeOwn is called by the sockets' watcher with a connection that came while
// nobody was alive.
func (m *Master) takeOwn(l config.Listener, c net.Conn) {
	fd, err := descriptor(c)
	_ = c.Close()
	if err != nil {
		m.log.Warn("a client's connection is lost", zap.String("listener", l.Name), zap.Error(err))
		return
	}
	m.takeOrphan(l, fd)
}

func (m *Master) adoptOrphan(listener config.Listener, fd int) {
	if len(m.orphans) >= maxOrphans {
		m.log.Warn("too many connections wait for a worker; one is closed", zap.String("listener", listener.Name), zap.Int("limit", maxOrphans))
		ipc.DiscardConn(fd)
		return
	}
	m.orphans = append(m.orphans, orphan{listener, fd, time.Now()})
	m.placeOrphans()
}

// placeOrphans gives waiting connections to a worker that is steered to, so
// that their clients are answered and not reset. Workers that do not speak the
// protocol cannot take them: then, and when nobody is alive, the master answers;
// but clients that are to be held wait here for the worker that comes.
func (m *Master) placeOrphans() {
	if len(m.orphans) == 0 {
		return
	}
	hold := m.cfg.Unavailable.Answer == answer.ModeHold && !m.ends()
	serving := m.servingWorkers()
	rest := m.orphans[:0]
	for i, o := range m.orphans {
		w := withRoom(serving, i)
		switch {
		case w != nil:
			if err := w.session.Conn(called(o.listener, w.generation.cfg), ipc.PurposeServe, o.fd); err != nil { // took the descriptor all the same
				m.log.Warn("a connection found in a queue cannot be passed on", append(m.fields(w), zap.Error(err))...)
			}
		case len(serving) > 0: // they have more to read than is good for them
			rest = append(rest, o)
			m.placeLater()
		case m.foreign(), m.nobody && (!hold || time.Since(o.since) >= holdTime):
			m.answerFD(o)
		default:
			rest = append(rest, o)
		}
	}
	m.orphans = rest
}

// placeLater has those who wait placed when the workers have read some more.
func (m *Master) placeLater() {
	if m.placing {
		return
	}
	m.placing = true
	time.AfterFunc(placeAgain, func() {
		m.at(func() {
			m.placing = false
			m.placeOrphans()
		})
	})
}

// ends: the service stops, and nobody comes to be waited for.
func (m *Master) ends() bool {
	st := m.machine.Status()
	return st.Stopping && st.Drains.IsZero()
}

// answerer is the one that does what is configured now. Those whom it would
// hold have been held in the loop, where a worker that comes is seen.
func (m *Master) answerer() *answer.Answerer {
	mode := m.cfg.Unavailable.Answer
	if mode == answer.ModeHold && (!m.foreign() || m.ends()) {
		mode = answer.Mode503
	}
	return m.answers[mode]
}

// servingWorkers are those that take connections by message.
func (m *Master) servingWorkers() []*worker {
	var able []*worker
	for _, w := range m.workers {
		if w.session != nil && w.handed && w.process != nil && steeredTo(m.shares, w.slot) && w.session.Connected() {
			able = append(able, w)
		}
	}
	return able
}

// withRoom picks the n-th of the workers, or the next that can be told more; nil: none.
func withRoom(ws []*worker, n int) *worker {
	for i := range ws {
		if w := ws[(n+i)%len(ws)]; w.session.Room() > 0 {
			return w
		}
	}
	return nil
}

// foreign: the workers cannot be passed connections.
func (m *Master) foreign() bool { return m.cfg.Worker.Kind != config.KindSDK }

// called is what a listener is called in a configuration.
func called(l config.Listener, c *config.Config) string {
	for _, x := range c.Listeners {
		if listen.Same(x, l) {
			return x.Name
		}
	}
	return l.Name
}

// speaksHTTP tells whether a 503 would be understood on this listener.
func speaksHTTP(c *config.Config, listener string) bool {
	if h := c.Health.HTTP; h != nil && h.Listener == listener {
		return h.Scheme == "http"
	}
	return strings.HasPrefix(listener, "http") && listener != "https"
}
