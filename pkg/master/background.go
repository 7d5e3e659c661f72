package master

import (
	"time"

	"go.uber.org/zap"
)

// Background work (cron, consumers) must not run in two versions at one time.
// A worker that is activated while one of another generation may still run its
// own is told to wait with it, and once those have said that theirs has ended,
// or are gone, it is told to begin.

// backgroundPatience is how long a worker that was told to end its background
// work counts as running it. An SDK says after 10 s that it goes on without
// those that do not return; one that says nothing at all is not waited for.
const backgroundPatience = 15 * time.Second

// background is what is known of one worker's.
type background struct {
	runs    bool      // it may be running
	toldEnd time.Time // when it was told to end it; zero: it was not
	waits   bool      // it is active, and was told to wait
}

// activateSession tells a worker that it is active, and whether its background
// work may begin.
func (m *Master) activateSession(w *worker, names []string, fds []int) error {
	if m.worksElsewhere(w) {
		w.background.waits = true
		return w.session.ActivateWaiting(names, fds)
	}
	w.background = background{runs: true}
	return w.session.Activate(names, fds)
}

// worksElsewhere: background work of another generation may be running.
func (m *Master) worksElsewhere(w *worker) bool {
	for _, x := range m.workers {
		b := x.background
		if x.generation != w.generation && b.runs && (b.toldEnd.IsZero() || time.Since(b.toldEnd) < backgroundPatience) {
			return true
		}
	}
	return false
}

// endBackground notes that a worker is being told to end its background work.
func (w *worker) endBackground() {
	w.background.waits = false
	if w.background.runs && w.background.toldEnd.IsZero() {
		w.background.toldEnd = time.Now()
	}
}

// backgroundEnded: a worker said so. What it says of a park that was taken back
// since does not count.
func (m *Master) backgroundEnded(w *worker) {
	if !w.background.toldEnd.IsZero() {
		w.background.runs, w.background.toldEnd = false, time.Time{}
	}
	m.beginBackground()
}

// beginBackground lets those begin who wait for nobody any more. One that
// cannot be told now is told with the next pulse.
func (m *Master) beginBackground() {
	for _, w := range m.workers {
		if !w.background.waits || w.paused || w.session == nil || m.worksElsewhere(w) {
			continue
		}
		if err := w.session.Activate(nil, nil); err != nil {
			m.log.Warn("a worker cannot be told to begin its background work", append(m.fields(w), zap.Error(err))...)
			continue
		}
		w.background = background{runs: true}
	}
}
