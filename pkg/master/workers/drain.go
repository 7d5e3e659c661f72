package workers

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"time"

	"go.uber.org/zap"

	"github.com/masterd/masterd/pkg/master/config"
	"github.com/masterd/masterd/pkg/master/conns"
	"github.com/masterd/masterd/pkg/master/rollout"
)

// A worker without the SDK cannot be told over a control connection to drain, so the master
// does it in three steps, after no new connection is steered to the worker any more:
//
//  1. It waits until the worker has accepted what was on its way to it, by the same count
//     of handshakes as a quarantine's (settleWait bounds that).
//  2. If the program has a way to drain (drain.signal, drain.command), it is used. The
//     signal goes to the worker's process alone: a server with children passes it on as it
//     should be. A stop signal goes to the whole group, because it must reach everybody.
//  3. Else the master watches the worker's connections from the kernel's side (package
//     conns) until its clients are gone or wait for nothing, and sends the stop signal.
//     Towards the end of the drain any moment will do at which nobody waits for an answer.
//
// The machine stops a worker that is still there at the end of its drain.

const (
	// settleWait bounds the wait for connections that are on their way to a worker: one
	// that does not accept them now never will.
	settleWait = 2 * time.Second
	// Between two looks at a worker's connections; each is a little later than the
	// one before.
	settlePoll   = 10 * time.Millisecond
	connsPoll    = 50 * time.Millisecond
	connsPollMax = 250 * time.Millisecond
	// hurryBefore is how long before the end of a drain, at most a quarter of it, any
	// moment will do at which nobody is just waiting for an answer.
	hurryBefore = 5 * time.Second
	// askTimeout bounds a drain.command.
	askTimeout = time.Minute
)

// drain starts draining the worker. It sends at most one stop signal: to many servers a
// second one means something else.
func (a *activated) drain(c rollout.Drain) {
	set, w := a.set, a.Worker
	if w.asked || a.draining != nil || w.process == nil {
		return
	}
	ctx, cancel := context.WithCancel(set.Loop.Life())
	a.draining = cancel
	drain := w.Generation.Config.Drain
	over := set.Sockets.Quiesce(int(w.Slot))
	gone := a.openConnections(c.Deadline)
	ask := a.drainCommand()
	set.Loop.Go(func() {
		defer cancel()
		quiescence, end := context.WithTimeout(ctx, settleWait)
		waitUntil(quiescence, settlePoll, settlePoll, over)
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
			set.Loop.Post(func() { a.signalDrain(drain.Signal) })
			return
		default:
			if !waitUntil(ctx, connsPoll, connsPollMax, gone) {
				return // its time is over, or it has ended
			}
		}
		set.Loop.Post(func() {
			if set.workers[w.ID] == w && !w.asked {
				set.Signal(w.ID, false, why)
			}
		})
	})
}

// signalNone is what drain.signal says where a program has no way of its own.
const signalNone = "none"

// signalDrain sends the signal that has a worker finish.
func (a *activated) signalDrain(name string) {
	set, w := a.set, a.Worker
	if set.workers[w.ID] != w || w.asked {
		return
	}
	w.asked = true
	set.Master.KeepLive()
	set.Log.Info("signalling worker", append(set.Fields(w), zap.Stringer("signal", Signals[name]),
		zap.String("why", "it is to drain"))...)
	if err := w.process.SignalAlone(Signals[name]); err != nil { // who has children passes it on as it should be
		set.Log.Warn("signalling worker", append(set.Fields(w), zap.Error(err))...)
	}
}

// drainCommand returns what runs drain.command for the worker, beside the loop. That returns
// why the worker is to be stopped all the same; empty: the command has asked it to finish.
func (a *activated) drainCommand() func(context.Context) string {
	set, w := a.set, a.Worker
	who, fields := probed(w), set.Fields(w)
	command := set.System.Checker(config.Health{Command: w.Generation.Config.Drain.Command})
	return func(ctx context.Context) string {
		ctx, cancel := context.WithTimeout(ctx, askTimeout)
		defer cancel()
		set.Log.Info("running drain.command", fields...)
		if err := command.Check(ctx, who, nil); err != nil {
			return fmt.Sprintf("drain.command failed: %v", err)
		}
		return ""
	}
}

// openConnections returns what tells, beside the loop, whether a worker can be ended for the
// sake of its clients: they are gone, or ask for nothing. Towards the deadline a moment will do at which nobody
// waits for an answer. What cannot be known counts as somebody.
func (a *activated) openConnections(deadline time.Time) (none func() bool) {
	set, w := a.set, a.Worker
	id, leader := uint64(w.ID), a.leads()
	var at []netip.AddrPort
	var paths []string
	places, err := set.Sockets.Places(int(w.Slot), w.Generation.Names())
	for _, p := range places {
		if p.Path != "" {
			paths = append(paths, p.Path)
		} else {
			at = append(at, p.At)
		}
	}
	log := set.Log.With(set.Fields(w)...)
	hurry := deadline.Add(-min(time.Until(deadline)/4, hurryBefore))
	told := false
	return func() bool {
		var open conns.Open
		why := err
		if why == nil {
			open, why = set.System.Conns(set.Processes(id, leader, set.System.Groups), at, paths)
		}
		if why != nil { // for now: one of its processes may be about to end
			if !told {
				log.Warn("whether a worker still has clients cannot be known; if it stays so, it is given all of its drain",
					zap.Error(why))
			}
			told = true
			return false
		}
		return open.Busy == 0 || open.Asked == 0 && !deadline.IsZero() && time.Now().After(hurry)
	}
}

// waitUntil polls so, at first every first and at last every last, until it is true. It
// reports false when ctx ends first.
func waitUntil(ctx context.Context, first, last time.Duration, so func() bool) bool {
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
