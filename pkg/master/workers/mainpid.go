package workers

import (
	"time"

	"go.uber.org/zap"

	"github.com/masterd/masterd/pkg/master/process"
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
func (a *activated) mainIs(pid int) {
	set, w := a.set, a.Worker
	if w.process == nil || w.ended || pid == w.process.PID() {
		return
	}
	if !a.mains.allow(time.Now()) {
		if !a.mains.refused {
			set.Log.Warn("a worker changes its main process (MAINPID) too often; what it names now is passed over",
				append(set.Fields(w), zap.Int("main", pid), zap.Int("at_once", mainBurst), zap.Duration("then_each", mainEvery))...)
		}
		a.mains.refused = true
		return
	}
	a.mains.refused = false
	p, begun, group, err := a.namedMain(pid)
	if err != nil {
		set.Log.Warn("a worker names a main process that it cannot have",
			append(set.Fields(w), zap.Int("main", pid), zap.Error(err))...)
		return
	}
	back := p == a.former
	before := w.process
	before.Spare(true)
	if a.former == nil {
		a.former = before // masterd's own child: watched until it ends
	} else {
		close(a.replaced) // ends its watcher
	}
	w.process, w.begun, a.group, a.replaced = p, begun, group, nil
	if back {
		p.Spare(false)
		a.former = nil
	} else {
		replaced := make(chan struct{})
		a.replaced = replaced
		set.Loop.Go(func() { set.awaitEnd(w, p, replaced) })
	}
	set.Notices.Main(uint64(w.ID), pid)
	set.Log.Info("another process is the worker from now on", set.Fields(w)...)
	set.Master.KeepLive()
}

// namedMain takes hold of the process that a worker names: of the one that was
// started there is hold already.
func (a *activated) namedMain(pid int) (p Process, begun string, group int, err error) {
	set, w := a.set, a.Worker
	if begun, err = process.Begun(pid); err != nil {
		return nil, "", 0, err
	}
	if group, err = process.Belongs(pid, a.leads(), func(env []string) bool {
		if id, ok := set.Contain.Of(pid); ok {
			return id == uint64(w.ID)
		}
		marked, ours := set.Of(env)
		return ours && marked == uint64(w.ID) && process.Sees(pid, set.RuntimeDir)
	}); err != nil {
		return nil, "", 0, err
	}
	if a.former != nil && a.former.PID() == pid {
		select {
		case <-a.former.Done(): // its number is another's by now
		default:
			return a.former, begun, 0, nil
		}
	}
	p, err = set.System.Adopt(pid, begun, group)
	return p, begun, group, err
}
