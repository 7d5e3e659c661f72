package control

import (
	"slices"
	"time"

	"github.com/masterd/masterd/pkg/ipc"
	"github.com/masterd/masterd/pkg/worker/internal/serve"
)

// How a worker ends: asked by the master or not, at once when nothing is open,
// at a deadline at the latest.

const (
	hurryGrace = time.Second            // what a signal leaves to a worker that drains already
	cutGrace   = 500 * time.Millisecond // for handlers whose connection was cut, to notice
	lastGrace  = 2 * time.Second        // for what was still queued when a worker left without its master's word
)

// shutdown is how far a worker that leaves has come.
type shutdown struct {
	seq        uint64 // of the master's drain; zero: it did not ask
	accepting  bool   // the sockets are still open
	deadline   *time.Timer
	deadlineAt time.Time // zero: none
	wasCut     bool
	idleTimer  *time.Timer // idle connections are closed at its ticks
	idleClosed int         // how many were
	goodbyes   *background // the program's OnLeaving functions
}

// drain is the master's: it steers new connections elsewhere.
func (l *lifecycle) drain(seq uint64, timeout time.Duration) {
	l.shutdown.seq = seq
	l.startLeaving()
	l.shutListeners()
	if !l.shutdown.wasCut { // else a short one is running already
		l.setDeadline(l.drainLimit(timeout))
	}
}

// leave is a drain that the master did not ask for. A worker that is steered to
// goes on accepting then, until nothing is open or time is up: were it to stop,
// its clients would hang in the queue until it is gone and replaced.
func (l *lifecycle) leave(why string) {
	if l.State() == ipc.StateDraining {
		if l.shutdown.deadlineAt.IsZero() || time.Until(l.shutdown.deadlineAt) > hurryGrace {
			l.log.Info("worker: told again to leave, cutting what is open soon", "why", why, "in", hurryGrace)
			l.setDeadline(hurryGrace)
		}
		return
	}
	if l.announce(why) {
		return
	}
	l.log.Info("worker: leaving", "why", why, "timeout", l.DrainTimeout)
	l.shutdown.accepting = l.info.Managed && l.State() == ipc.StateActive
	l.startLeaving()
	if l.shutdown.accepting {
		l.rotate()
	} else {
		l.shutListeners()
	}
	l.setDeadline(l.drainLimit(max(0, l.DrainTimeout)))
	if l.announcement.why == "" { // else the announcement has sent it
		l.notify("STOPPING=1")
	}
}

func (l *lifecycle) startLeaving() {
	l.sayLeaving() // before the state: who sees that may rely on it
	l.setState(ipc.StateDraining)
	l.cancel()
	l.jobs.stop()
}

// sayLeaving has everybody who waits for it know that the worker leaves.
func (l *lifecycle) sayLeaving() {
	l.Traffic.Leaving.Set()
	if l.State() != ipc.StateNew { // else what they would part from is not there
		l.shutdown.goodbyes.start()
	}
}

func (l *lifecycle) shutListeners() {
	l.shutdown.accepting = false
	for _, d := range l.listeners {
		d.Shut(!l.paused) // while paused the queue is somebody else's
	}
}

// drainLimit is how long a drain may take. A worker that is not ready has nobody
// to wait for but a BeforeReady function that hangs.
func (l *lifecycle) drainLimit(timeout time.Duration) time.Duration {
	if l.preparing != nil && (timeout == 0 || timeout > hurryGrace) {
		return hurryGrace
	}
	return timeout
}

// setDeadline sets when the rest is cut; zero: never.
func (l *lifecycle) setDeadline(in time.Duration) {
	l.shutdown.deadlineAt = time.Time{}
	l.shutdown.deadline.Stop()
	if in > 0 {
		l.shutdown.deadlineAt = time.Now().Add(in)
		l.shutdown.deadline.Reset(in)
	}
	l.scheduleIdleClose(in)
	l.Traffic.GoAways.Start(in)
}

// cut ends a drain whose time is up.
func (l *lifecycle) cut() {
	switch {
	case l.shutdown.accepting:
		l.shutListeners() // takes what is queued: that gets its answer yet
		l.setDeadline(lastGrace)
	case !l.shutdown.wasCut:
		l.shutdown.wasCut = true
		n := l.Traffic.CloseAll()
		for _, d := range l.listeners {
			d.CutServers()
		}
		ran := l.Traffic.CutRequests()
		l.log.Warn("worker: time to drain is up",
			"connections_cut", n, "idle_closed_before", l.shutdown.idleClosed, "requests_cut", ran.Count,
			"longest", ran.Longest, "median", ran.Median, "background_work_running", !l.jobs.idle())
		l.setDeadline(cutGrace)
	default:
		l.over = true // somebody ignores its end; the process's will do
	}
}

// checkDone asks whether something that was waited for has come.
func (l *lifecycle) checkDone() {
	if l.parking.seq != 0 && l.jobs.idle() {
		l.parking.limit.Stop()
		if l.conn != nil { // else once there is one: its hello may have reported that something still ran
			l.sendParked()
		}
	}
	if l.State() != ipc.StateDraining || l.over || l.preparing != nil || !l.jobs.idle() || !l.shutdown.goodbyes.idle() ||
		!l.Traffic.Idle() || l.receiver.Pending() || slices.ContainsFunc(l.listeners, (*serve.Listener).Stopping) {
		return
	}
	if l.shutdown.accepting {
		l.shutListeners() // and look again at what that took
		l.Traffic.Notify()
		return
	}
	l.over = true
}

// finish sends the master the last numbers.
func (l *lifecycle) finish() {
	l.cancel()
	l.jobs.stop()
	l.sendParked()
	if l.conn == nil {
		return
	}
	if l.State() == ipc.StateDraining {
		l.sendDrained()
	}
	l.conn.finish()
}

// serverFailed ends a worker that has a server less than it should: another one,
// of this version or the one before, will serve better.
func (l *lifecycle) serverFailed(err error) {
	if l.err == nil {
		l.err = err
	}
	l.log.Error("worker: a server has ended by itself", "error", err)
	if l.State() != ipc.StateDraining {
		l.leave("a server has ended by itself")
	}
}
