package workers

import (
	"errors"
	"syscall"
	"time"

	"go.uber.org/zap"

	"github.com/masterd/masterd/pkg/master/config"
	"github.com/masterd/masterd/pkg/master/listen"
	"github.com/masterd/masterd/pkg/master/logs"
	"github.com/masterd/masterd/pkg/master/process"
	"github.com/masterd/masterd/pkg/master/rollout"
	"github.com/masterd/masterd/pkg/master/state"
)

// Adopt takes over the process of a worker that an earlier master has left; nil: it is
// gone. [Set.Resume] goes on with all of them, once the rooms are open.
func (set *Set) Adopt(l state.LiveWorker, g *Generation) *Worker {
	p, err := set.System.Adopt(l.PID, l.Begun, l.Group)
	if err != nil {
		if !errors.Is(err, process.ErrGone) {
			set.Log.Error("a worker of the last master cannot be taken over", zap.Uint64("worker", l.ID),
				zap.Int("worker_pid", l.PID), zap.Error(err))
		}
		return nil
	}
	w := &Worker{
		ID: rollout.Worker(l.ID), Generation: g, Slot: rollout.Slot(l.Slot), Started: l.Started, process: p,
		finished: make(chan struct{}),
		begun:    l.Begun, UID: l.UID, leaving: l.Leaving, stopped: l.Stopped, asked: l.Asked,
	}
	w.kind = set.kindOf(w, l.Secret != "")
	w.kind.restore(l)
	g.Slot, g.Last = w.Slot, max(g.Last, w.ID)
	set.workers[w.ID] = w
	set.Log.Info("worker taken over", set.Fields(w)...)
	return w
}

// Unblock puts right for the workers that were adopted what systemd has done to its
// sockets: it has made them blocking when it started this master. A program that counts
// on the other mode would hang in accept, where it hears nothing else.
func (set *Set) Unblock(given []listen.Given) {
	for _, w := range set.workers {
		if c := w.Generation.Config.Worker; c.Kind != config.KindSDK && !c.NonBlocking {
			continue
		}
		for _, g := range given {
			if err := syscall.SetNonblock(g.FD, true); err != nil {
				set.Log.Error("a socket of the service manager's stays blocking", zap.String("name", g.Name), zap.Error(err))
			}
		}
		return
	}
}

// Resume gives the workers that were adopted their rooms: their output, their slots, and
// a place where they are heard.
func (set *Set) Resume() {
	for _, w := range set.All() {
		g := w.Generation
		set.Sockets.Name(int(w.Slot), g.Config.Listeners)
		output, err := set.Output.Adopt(logs.Ident{
			Worker: uint64(w.ID), Generation: uint64(g.ID), Version: g.Version.Label, UID: w.UID, PID: w.process.PID,
			PerWorker: g.Config.Log.PerWorker, Line: g.Config.Log.Line,
		})
		if err != nil {
			set.Log.Error("the output of a worker is lost to masterd", append(set.Fields(w), zap.Error(err))...)
			output = lostOutput{}
		}
		w.output = output
		w.kind.resume()
	}
}

// Follow has the ends of adopted workers told, once the loop runs.
func (set *Set) Follow() {
	for _, w := range set.All() {
		set.Loop.Go(func() { set.awaitEnd(w, w.process, nil) })
		if w.Generation.ID == set.Master.Machine().Active {
			set.lookOnce(w)
		}
	}
	time.AfterFunc(Patience, func() { set.Loop.Post(set.CatchUp) })
}

// Live is what another master must know of the worker.
func (w *Worker) Live() state.LiveWorker {
	l := state.LiveWorker{
		ID: uint64(w.ID), Generation: uint64(w.Generation.ID), Slot: int(w.Slot), Begun: w.begun, UID: w.UID,
		Started: w.Started.Round(0), Leaving: w.leaving, Stopped: w.stopped, Asked: w.asked,
	}
	if w.process != nil {
		l.PID = w.process.PID()
	}
	w.kind.note(&l)
	return l
}

// lostOutput stands for files that are gone.
type lostOutput struct{}

func (lostOutput) FDs() (int, int) { return -1, -1 }
func (lostOutput) Started()        {}
func (lostOutput) Finish()         {}
