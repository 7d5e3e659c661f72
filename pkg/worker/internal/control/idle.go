package control

import "time"

// What could not leave otherwise and is idle near the end of a drain is closed
// before its deadline, a few at a time: were all cut in one instant, all their
// clients would come back in one.

const (
	IdleCloseInterval = 50 * time.Millisecond // between two groups

	// Idle connections are closed in the last part of a drain: its time divided by
	// idleCloseShare, and no longer than idleCloseMax.
	idleCloseShare = 4
	idleCloseMax   = 5 * time.Second
)

// scheduleIdleClose sets when a drain that may take so long begins to close what is
// idle; zero: never.
func (l *lifecycle) scheduleIdleClose(in time.Duration) {
	l.shutdown.idleTimer.Stop()
	if in > 0 && !l.shutdown.wasCut {
		l.shutdown.idleTimer.Reset(in - min(in/idleCloseShare, idleCloseMax))
	}
}

// closeIdle closes the share of the idle connections that is due until the next tick, but
// none with a request in the kernel's buffer. It may be that all of them are gone by
// then, or that more are idle.
func (l *lifecycle) closeIdle() {
	left := time.Until(l.shutdown.deadlineAt)
	idle, n := l.Traffic.CloseIdle(max(1, int(left/IdleCloseInterval)))
	if n > 0 && l.shutdown.idleClosed == 0 {
		l.log.Info("worker: time to drain is nearly up, closing idle connections in a spread", "idle", idle, "in", left)
	}
	l.shutdown.idleClosed += n
	l.shutdown.idleTimer.Reset(IdleCloseInterval)
}
