package master

import (
	"time"

	"go.uber.org/zap"

	"github.com/masterd/masterd/pkg/master/proc"
)

// A worker may name another process as its main one, by MAINPID of sd_notify(3). At
// any time one process is watched as the worker, and the one that masterd started is
// watched besides, because it is masterd's own child.

const (
	// A worker may change its main process mainBurst times at once, and once in every
	// mainEvery after that. A program that replaces itself does it once per upgrade.
	mainBurst = 8
	mainEvery = 10 * time.Second
)

// mainChanges limits how often a worker changes its main process.
type mainChanges struct {
	left    int       // changes that are allowed now
	since   time.Time // when left was last counted; zero: never
	refused bool      // a refusal was logged, and no change was allowed since
}

// allow counts one change and reports whether it is allowed.
func (c *mainChanges) allow(now time.Time) bool {
	if c.since.IsZero() {
		c.left, c.since = mainBurst, now
	}
	if n := int(now.Sub(c.since) / mainEvery); n > 0 {
		c.left, c.since = min(c.left+n, mainBurst), c.since.Add(time.Duration(n)*mainEvery)
	}
	if c.left == 0 {
		return false
	}
	c.left--
	return true
}

// mainIs makes another process the worker. It must be in the worker's group, or have
// made its own below the worker.
func (m *Master) mainIs(w *worker, pid int) {
	if w.process == nil || w.ended || pid == w.process.PID() {
		return
	}
	if !w.mains.allow(time.Now()) {
		if !w.mains.refused {
			m.log.Warn("a worker changes its main process (MAINPID) too often; what it names now is passed over",
				append(m.fields(w), zap.Int("main", pid), zap.Int("at_once", mainBurst), zap.Duration("then_each", mainEvery))...)
		}
		w.mains.refused = true
		return
	}
	w.mains.refused = false
	p, begun, group, err := m.namedMain(w, pid)
	if err != nil {
		m.log.Warn("a worker names a main process that it cannot have", append(m.fields(w), zap.Int("main", pid), zap.Error(err))...)
		return
	}
	back := p == w.former
	before := w.process
	before.Spare(true)
	if w.former == nil {
		w.former = before // masterd's own child: watched until it ends
	} else {
		close(w.replaced) // ends its watcher
	}
	w.process, w.begun, w.group, w.replaced = p, begun, group, nil
	if back {
		p.Spare(false)
		w.former = nil
	} else {
		replaced := make(chan struct{})
		w.replaced = replaced
		m.beside(func() { m.awaitEnd(w, p, replaced) })
	}
	m.notices.Main(uint64(w.id), pid)
	m.log.Info("another process is the worker from now on", m.fields(w)...)
	m.keepLive()
}

// namedMain takes hold of the process that a worker names: of the one that was
// started there is hold already.
func (m *Master) namedMain(w *worker, pid int) (p process, begun string, group int, err error) {
	if begun, err = proc.Begun(pid); err != nil {
		return nil, "", 0, err
	}
	if group, err = proc.Belongs(pid, w.leads(), func(env []string) bool {
		if id, ok := m.contain.Of(pid); ok {
			return id == uint64(w.id)
		}
		return m.marked(w.id)(env) && proc.Sees(pid, m.opt.Config.RuntimeDir)
	}); err != nil {
		return nil, "", 0, err
	}
	if w.former != nil && w.former.PID() == pid {
		select {
		case <-w.former.Done(): // its number is another's by now
		default:
			return w.former, begun, 0, nil
		}
	}
	p, err = m.system.adopt(pid, begun, group)
	return p, begun, group, err
}
