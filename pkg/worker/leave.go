package worker

import (
	"time"

	"github.com/masterd/masterd/pkg/ipc"
)

// How a life ends: asked by the master or not, at once when nothing is open,
// at a deadline at the latest.

const (
	hurryGrace = time.Second            // what a signal leaves to a worker that drains already
	cutGrace   = 500 * time.Millisecond // for handlers whose connection was cut, to notice
	lastGrace  = 2 * time.Second        // for what was still queued when a worker left without its master's word
)

// drain is the master's: it steers new connections elsewhere.
func (l *life) drain(seq uint64, timeout time.Duration) {
	l.draining = seq
	l.depart()
	l.shutDoors()
	if !l.wasCut { // else a short one is running already
		l.setDeadline(l.patience(timeout))
	}
}

// leave is a drain that the master did not ask for. A worker that is steered to
// goes on accepting then, until nothing is open or time is up: were it to stop,
// its clients would hang in the queue until it is gone and replaced.
func (l *life) leave(why string) {
	if l.state() == StateDraining {
		if l.deadlineAt.IsZero() || time.Until(l.deadlineAt) > hurryGrace {
			l.log.Info("worker: told again to leave, cutting what is open soon", "why", why, "in", hurryGrace)
			l.setDeadline(hurryGrace)
		}
		return
	}
	if l.announce(why) {
		return
	}
	l.log.Info("worker: leaving", "why", why, "timeout", l.w.opts.DrainTimeout)
	l.accepting = l.w.info.Managed && l.state() == StateActive
	l.depart()
	if l.accepting {
		l.nextShifts()
	} else {
		l.shutDoors()
	}
	l.setDeadline(l.patience(max(0, l.w.opts.DrainTimeout)))
	if l.announcing == "" { // else that said it
		l.notify("STOPPING=1")
	}
}

func (l *life) depart() {
	l.w.traffic.leaving.give() // before the state: who sees that may rely on it
	l.become(StateDraining)
	l.cancel()
	l.jobs.stop()
}

func (l *life) shutDoors() {
	l.accepting = false
	for _, d := range l.doors {
		d.shut(!l.paused) // while paused the queue is somebody else's
	}
}

// patience is how long a drain may take. A worker that is not ready has nobody
// to wait for but a BeforeReady function that hangs.
func (l *life) patience(timeout time.Duration) time.Duration {
	if l.preparing != nil && (timeout == 0 || timeout > hurryGrace) {
		return hurryGrace
	}
	return timeout
}

// setDeadline sets when the rest is cut; zero: never.
func (l *life) setDeadline(in time.Duration) {
	l.deadlineAt = time.Time{}
	l.deadline.Stop()
	if in > 0 {
		l.deadlineAt = time.Now().Add(in)
		l.deadline.Reset(in)
	}
	l.planThinning(in)
	l.w.traffic.partings.begin(in)
}

// cut ends a drain whose time is up.
func (l *life) cut() {
	switch {
	case l.accepting:
		l.shutDoors() // takes what is queued: that gets its answer yet
		l.setDeadline(lastGrace)
	case !l.wasCut:
		l.wasCut = true
		n := l.w.traffic.cutOff()
		l.cutShifts()
		ran := l.w.traffic.cutRequests()
		l.log.Warn("worker: time to drain is up", "connections_cut", n, "idle_closed_before", l.thinned, "requests_cut", ran.count,
			"longest", ran.longest, "median", ran.median, "background_work_running", !l.jobs.idle())
		l.setDeadline(cutGrace)
	default:
		l.over = true // somebody ignores its end; the process's will do
	}
}

// look asks whether something that was waited for has come.
func (l *life) look() {
	if l.parking != 0 && l.jobs.idle() {
		l.parkLimit.Stop()
		if l.session != nil { // else with the next: its hello may have said already that something still ran
			l.sayParked()
		}
	}
	if l.state() != StateDraining || l.over || l.preparing != nil || !l.jobs.idle() || !l.w.traffic.quiet() || l.takers.pending.Load() > 0 || !l.quietShifts() {
		return
	}
	if l.accepting {
		l.shutDoors() // and look again at what that took
		l.w.traffic.look()
		return
	}
	l.over = true
}

// farewell tells the master the last numbers.
func (l *life) farewell() {
	l.cancel()
	l.jobs.stop()
	l.sayParked()
	if l.session == nil {
		return
	}
	if l.state() == StateDraining {
		l.say(ipc.Message{Type: ipc.TypeDrained, Seq: l.draining})
	}
	l.session.finish()
}
