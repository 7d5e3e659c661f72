package workers

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/masterd/masterd/pkg/master/config"
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
//  3. Else the master closes the worker's connections one at a time (letGo), and sends the stop
//     signal when there are none left. Where it may not do that, it watches them until
//     its clients are gone or wait for nothing, all at one moment. Towards the end of the drain
//     any moment will do then at which nobody waits for an answer.
//
// The machine stops a worker that is still there at the end of its drain. What it has open is
// looked at until it has ended, so that what was cut can be said.

const (
	// settleWait bounds the wait for connections that are on their way to a worker: one
	// that does not accept them now never will.
	settleWait = 2 * time.Second
	settlePoll = 10 * time.Millisecond
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
	a.endParking()
	ctx, cancel := context.WithCancel(set.Loop.Life())
	a.draining = cancel
	drain := w.Generation.Config.Drain
	over := set.Sockets.Quiesce(int(w.Slot))
	clients := a.watchClients(c.Deadline)
	ask := a.drainCommand()
	set.Loop.Go(func() {
		defer clients.count()
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
			if !clients.letGo(ctx) {
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
