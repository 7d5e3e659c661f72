package workers

import (
	"time"

	"go.uber.org/zap"
)

// Background work (cron, consumers) must not run in two versions at one time.
// A new generation is activated before the old one is parked, so that there is
// always somebody who accepts. So a worker that is activated while one of another
// generation may still run its own is told to wait with it, and once those have
// said that theirs has ended, or are gone, it is told to begin.

// backgroundPatience is how long a worker that was told to end its background
// work counts as running it. An SDK says after 10 s that it goes on without
// those that do not return; one that says nothing at all is not waited for.
const backgroundPatience = 15 * time.Second

// background is what is known of one worker's.
type background struct {
	runs    bool      // it may be running
	endSent time.Time // when it was told to end it; zero: it was not
	waits   bool      // it is active, and was told to wait
}

// activateSession tells a worker that it is active, and whether its background
// work may begin.
func (s *sdk) activateSession(names []string, fds []int) error {
	if s.worksElsewhere() {
		s.background.waits = true
		return s.session.ActivateWaiting(names, fds)
	}
	s.background = background{runs: true}
	return s.session.Activate(names, fds)
}

// worksElsewhere reports whether background work of another generation may be running.
func (s *sdk) worksElsewhere() bool {
	for _, x := range s.set.sdks() {
		b := x.background
		if x.Generation != s.Generation && b.runs && (b.endSent.IsZero() || time.Since(b.endSent) < backgroundPatience) {
			return true
		}
	}
	return false
}

// endBackground notes that a worker is being told to end its background work.
func (s *sdk) endBackground() {
	s.background.waits = false
	if s.background.runs && s.background.endSent.IsZero() {
		s.background.endSent = time.Now()
	}
}

// backgroundEnded notes that the worker has said so. What it says of a park that was taken
// back since does not count.
func (s *sdk) backgroundEnded() {
	if !s.background.endSent.IsZero() {
		s.background.runs, s.background.endSent = false, time.Time{}
	}
	s.set.BeginBackground()
}

// BeginBackground lets those begin who wait for nobody any more. One that
// cannot be told now is told with the next pulse.
func (set *Set) BeginBackground() {
	for _, s := range set.sdks() {
		if !s.background.waits || s.paused || s.worksElsewhere() {
			continue
		}
		if err := s.session.Activate(nil, nil); err != nil {
			set.Log.Warn("a worker cannot be told to begin its background work", append(set.Fields(s.Worker), zap.Error(err))...)
			continue
		}
		s.background = background{runs: true}
		if s.split != nil {
			set.Give(s.give()) // the message has ended it
		}
	}
}
