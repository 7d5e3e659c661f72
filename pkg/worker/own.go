package worker

import (
	"fmt"
	"log/slog"
)

// What a life and its doors do for listeners that are served by Serve.

// openOwn is open for such a listener. The servers are made by begin.
func (l *listener) openOwn(t *traffic, log *slog.Logger) *door {
	log = log.With("listener", l.name)
	own, checks := newShifts(l.name, l.make, t.look, log), newShifts(l.name, l.make, func() {}, log)
	return &door{listener: l, log: log, traffic: t, public: own, passed: own, probe: checks, checks: checks, own: own, caps: newCaps(l.maxConns, l.maxPerAddress)}
}

// makeShifts makes the first servers; what they need is ready. It runs beside the life,
// which must hear of a signal also while the program takes its time.
func (l *life) makeShifts() (err error) {
	for _, d := range l.doors {
		if d.own == nil {
			continue
		}
		for _, s := range []*shifts{d.own, d.probe.(*shifts)} {
			if s.first, err = s.build(); err != nil {
				return fmt.Errorf("listener %q: %w", d.name, err)
			}
		}
	}
	return nil
}

// beginShifts has the first servers serve.
func (l *life) beginShifts() error {
	for _, d := range l.doors {
		if d.own == nil {
			continue
		}
		for _, s := range []*shifts{d.own, d.probe.(*shifts)} {
			if err := s.begin(l.broken); err != nil {
				return fmt.Errorf("listener %q: %w", d.name, err)
			}
		}
	}
	return nil
}

// maxLeaving is how many servers of one listener may wait for their clients at
// one time, where each has a client that stays: further parks change nothing.
const maxLeaving = 32

// nextShifts asks the clients of the current servers to leave. Where a fresh
// server cannot be had, the current one goes on: its clients lose nothing.
func (l *life) nextShifts() {
	for _, d := range l.doors {
		if d.own == nil {
			continue
		}
		if d.own.leavers() >= maxLeaving {
			d.log.Warn("worker: the current server goes on, too many before it wait for their clients", "waiting", maxLeaving)
			continue
		}
		if err := d.own.next(); err != nil {
			d.log.Error("worker: no fresh server to follow the current one, which goes on", "error", err)
		}
	}
}

func (l *life) quietShifts() bool {
	for _, d := range l.doors {
		if d.own != nil && d.own.leavers() > 0 {
			return false
		}
	}
	return true
}

func (l *life) cutShifts() {
	for _, d := range l.doors {
		if d.own != nil {
			d.own.cut()
		}
	}
}

// leaveBroken ends a worker that has a server less than it should: another one,
// of this version or the one before, will serve better.
func (l *life) leaveBroken(err error) {
	if l.err == nil {
		l.err = err
	}
	l.log.Error("worker: a server has ended by itself", "error", err)
	if l.state() != StateDraining {
		l.leave("a server has ended by itself")
	}
}
