package operator

import (
	"go.uber.org/zap"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/pkg/master/generations"
	"github.com/masterd/masterd/pkg/master/rollout"
	"github.com/masterd/masterd/pkg/master/watch"
)

// What signals and the file watch ask for. Nobody waits for these answers: they
// go to the log and to the service manager's status line.

// Hup reloads the configuration and rolls over.
func (b *Backend) Hup() { b.reloadUnattended("SIGHUP", rollout.Signal, true) }

// Usr2 rolls over with the configuration in force.
func (b *Backend) Usr2() { b.reloadUnattended("SIGUSR2", rollout.Signal, false) }

// ReopenLogs opens the log file anew, after a rotation. It is for the goroutine that
// takes the signals, and does not keep that: a disk may be slow, and TERM comes there
// too. Who is at it does it once more for those who ask meanwhile.
func (b *Backend) ReopenLogs() {
	if b.reopens.Add(1) > 1 {
		return
	}
	b.Loop.Go(func() {
		for {
			asked := b.reopens.Load()
			_ = b.Journal.Reopen() // it says itself what went wrong
			if b.reopens.CompareAndSwap(asked, 0) {
				return
			}
		}
	})
}

// Quit drains and stops without a deadline of its own.
func (b *Backend) Quit() { b.Loop.Post(func() { b.StopUnattended("SIGQUIT", true) }) }

// Terminate drains and stops within stop_timeout; a second one ends now. With
// stop_announce it is announced first, and a second one ends that.
func (b *Backend) Terminate() { b.Loop.Post(func() { b.StopUnattended("SIGTERM", false) }) }

// StopUnattended asks for the end of the service for somebody who reads no answer. patient:
// without a deadline.
func (b *Backend) StopUnattended(by string, patient bool) {
	b.Master.Step(rollout.StopAsked{By: by, Patient: patient, Announce: b.Generations.InForce().Announce})
}

func (b *Backend) reloadUnattended(by string, origin rollout.Origin, reread bool) {
	b.Loop.Go(func() {
		cfg := b.Config
		var err error
		if reread {
			cfg, err = b.reread()
		} else {
			b.Loop.Call(func() { cfg = b.Generations.InForce().Base() })
		}
		if err != nil {
			b.Log.Error("reload refused: the configuration was not taken over and what runs is untouched",
				zap.String("by", by), zap.Error(err))
			b.Loop.Post(func() { b.notifyTrouble("reload refused: " + err.Error()) })
			return
		}
		ask := rollout.ReloadAsked{By: by, Origin: origin, Settings: generations.Settings(cfg)}
		if origin == rollout.Watch {
			ask.Digest, _ = b.Store.FileDigest(b.Loop.Life(), cfg.Worker.Command[0])
		}
		b.follow(by, b.reload(cfg, ask, ""))
	})
}

// follow reads an answer that nobody waits for.
func (b *Backend) follow(by string, events <-chan api.Event) {
	for {
		select {
		case ev, ok := <-events:
			if !ok {
				return
			}
			if o := ev.Outcome; o != nil && o.Result != api.ResultDone {
				b.Log.Error("reload", zap.String("by", by), zap.String("outcome", o.Result), zap.String("stage", o.Stage),
					zap.String("reason", o.Reason))
				b.Loop.Post(func() { b.notifyTrouble("reload " + o.Result + ": " + o.Reason) })
			}
		case <-b.Loop.Life().Done():
			return
		}
	}
}

// OpenWatch watches the configuration file and the program, if asked for.
func (b *Backend) OpenWatch() {
	if !b.Generations.InForce().Rollout.Watch || b.watch != nil {
		return
	}
	w, err := watch.Open(watch.Options{Files: b.watched(), Log: b.Log, Changed: func(c watch.Change) {
		b.Log.Info("changed on disk", zap.Strings("files", c.Files))
		b.reloadUnattended("the file watch", rollout.Watch, true)
	}})
	if err != nil {
		b.Log.Error("rollout.watch: files cannot be watched; reload by hand", zap.Error(err))
		return
	}
	b.watch = w
}

// SetWatch follows a new configuration.
func (b *Backend) SetWatch() {
	switch {
	case b.Generations.InForce().Rollout.Watch && b.watch == nil:
		b.OpenWatch()
	case b.Generations.InForce().Rollout.Watch:
		b.watch.Set(b.watched())
	case b.watch != nil:
		w := b.watch
		b.watch = nil
		b.Loop.Go(w.Close)
	}
}

func (b *Backend) watched() []string {
	cfg := b.Generations.InForce().Base()
	return []string{cfg.File, cfg.Worker.Command[0]}
}
