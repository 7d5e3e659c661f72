package master

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"time"

	"go.uber.org/zap"

	"github.com/masterd/masterd/pkg/master/config"
	"github.com/masterd/masterd/pkg/master/conns"
)

// A worker that cannot be asked to finish is seen off: the steering has left it, so
// it is waited for until it has accepted what was on its way to it, then it is
// told in its own way (drain.signal, drain.command), or, if it has none, until its
// clients are gone or ask for nothing, and then it gets its stop signal. All of it
// is bounded by its drain: whoever is still there then is stopped by the machine.

const (
	// ebbWait bounds the wait for connections that are on their way to a worker: one
	// that does not accept them now never will.
	ebbWait = 2 * time.Second
	// Between two looks at a worker's connections; each is a little later than the
	// one before.
	ebbLook   = 10 * time.Millisecond
	connsLook = 50 * time.Millisecond
	connsLast = 250 * time.Millisecond
	// hurryMost is how long before the end of a drain, at most a quarter of it, any
	// moment will do at which nobody is just waiting for an answer.
	hurryMost = 5 * time.Second
	// askTimeout bounds a drain.command.
	askTimeout = time.Minute
)

// seeOff begins it; deadline is that of the drain, zero: there is none. One that was
// asked to end is not asked again: a second signal may mean something else to it.
func (m *Master) seeOff(w *worker, deadline time.Time) {
	w.leaving = true
	if w.asked || w.seenOff != nil || w.process == nil {
		return
	}
	ctx, cancel := context.WithCancel(m.life)
	w.seenOff = cancel
	drain := w.generation.cfg.Drain
	over := m.sockets.Ebb(int(w.slot))
	gone := m.clients(w, deadline)
	ask := m.asker(w)
	m.beside(func() {
		defer cancel()
		ebb, end := context.WithTimeout(ctx, ebbWait)
		becomes(ebb, ebbLook, ebbLook, over)
		end()
		why := "its clients are gone, or ask for nothing"
		switch {
		case ctx.Err() != nil:
			return
		case len(drain.Command) > 0:
			if why = ask(ctx); why == "" {
				return
			}
		case drain.Signal != "" && drain.Signal != signalNone:
			m.at(func() { m.askToDrain(w, drain.Signal) })
			return
		default:
			if !becomes(ctx, connsLook, connsLast, gone) {
				return // its time is over, or it has ended
			}
		}
		m.at(func() {
			if m.workers[w.id] == w && !w.asked {
				m.signalWorker(w.id, false, why)
			}
		})
	})
}

// signalNone is what drain.signal says where a program has no way of its own.
const signalNone = "none"

// askToDrain sends the signal that has a worker finish.
func (m *Master) askToDrain(w *worker, name string) {
	if m.workers[w.id] != w || w.asked {
		return
	}
	w.asked = true
	m.keepLive()
	m.log.Info("signalling worker", append(m.fields(w), zap.Stringer("signal", signals[name]), zap.String("why", "it is to drain"))...)
	if err := w.process.SignalAlone(signals[name]); err != nil { // who has children passes it on as it should be
		m.log.Warn("signalling worker", append(m.fields(w), zap.Error(err))...)
	}
}

// asker runs drain.command for a worker; it returns why the worker is to be stopped
// all the same.
func (m *Master) asker(w *worker) func(context.Context) string {
	who, fields := probed(w), m.fields(w)
	command := m.system.checker(config.Health{Command: w.generation.cfg.Drain.Command})
	return func(ctx context.Context) string {
		ctx, cancel := context.WithTimeout(ctx, askTimeout)
		defer cancel()
		m.log.Info("running drain.command", fields...)
		if err := command.Check(ctx, who, nil); err != nil {
			return fmt.Sprintf("drain.command failed: %v", err)
		}
		return ""
	}
}

// clients tells whether a worker can be ended for the sake of its clients: they are
// gone, or ask for nothing. Towards the deadline a moment will do at which nobody
// waits for an answer. What cannot be known counts as somebody.
func (m *Master) clients(w *worker, deadline time.Time) (none func() bool) {
	id, leader := uint64(w.id), w.leads()
	var at []netip.AddrPort
	var paths []string
	places, err := m.sockets.Places(int(w.slot), w.generation.names())
	for _, p := range places {
		if p.Path != "" {
			paths = append(paths, p.Path)
		} else {
			at = append(at, p.At)
		}
	}
	log := m.log.With(m.fields(w)...)
	hurry := deadline.Add(-min(time.Until(deadline)/4, hurryMost))
	told := false
	return func() bool {
		var open conns.Open
		why := err
		if why == nil {
			open, why = m.system.conns(m.processesOf(id, leader, m.system.groups), at, paths)
		}
		if why != nil { // for now: one of its processes may be about to end
			if !told {
				log.Warn("whether a worker still has clients cannot be known; if it stays so, it is given all of its drain", zap.Error(why))
			}
			told = true
			return false
		}
		return open.Busy == 0 || open.Asked == 0 && !deadline.IsZero() && time.Now().After(hurry)
	}
}

// becomes asks again and again until it is so; false: the context ended first.
func becomes(ctx context.Context, first, last time.Duration, so func() bool) bool {
	for pause := first; ; pause = min(cmp.Or(pause*5/4, last), last) {
		if so() {
			return true
		}
		select {
		case <-ctx.Done():
			return false
		case <-time.After(pause):
		}
	}
}
