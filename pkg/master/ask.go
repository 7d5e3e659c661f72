package master

import (
	"go.uber.org/zap"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/pkg/master/rollout"
	"github.com/masterd/masterd/pkg/master/watch"
)

// What signals and the file watch ask for. Nobody waits for these answers: they
// go to the log and to the service manager's status line.

// Hup reloads the configuration and rolls over.
func (m *Master) Hup() { m.reloadUnattended("SIGHUP", rollout.Signal, true) }

// Usr2 rolls over with the configuration in force.
func (m *Master) Usr2() { m.reloadUnattended("SIGUSR2", rollout.Signal, false) }

// ReopenLogs opens the log file anew, after a rotation. It is for the goroutine that
// takes the signals, and does not keep that: a disk may be slow, and TERM comes there
// too. Who is at it does it once more for those who ask meanwhile.
func (m *Master) ReopenLogs() {
	if m.reopens.Add(1) > 1 {
		return
	}
	m.beside(func() {
		for {
			asked := m.reopens.Load()
			_ = m.journal.Reopen() // it says itself what went wrong
			if m.reopens.CompareAndSwap(asked, 0) {
				return
			}
		}
	})
}

// Quit drains and stops without a deadline of its own.
func (m *Master) Quit() { m.at(func() { m.stopUnattended("SIGQUIT", true) }) }

// Terminate drains and stops within stop_timeout; a second one ends now. With
// stop_announce it is announced first, and a second one ends that.
func (m *Master) Terminate() { m.at(func() { m.stopUnattended("SIGTERM", false) }) }

func (m *Master) stopUnattended(by string, patient bool) {
	m.step(rollout.StopAsked{By: by, Patient: patient, Announce: m.cfg.Announce})
}

func (m *Master) reloadUnattended(by string, origin rollout.Origin, reread bool) {
	m.beside(func() {
		cfg := m.opt.Config
		var err error
		if reread {
			cfg, err = m.reread()
		} else {
			m.ask(func() { cfg = m.cfg })
		}
		if err != nil {
			m.log.Error("reload refused: the configuration was not taken over and what runs is untouched", zap.String("by", by), zap.Error(err))
			m.at(func() { m.notifyTrouble("reload refused: " + err.Error()) })
			return
		}
		ask := rollout.ReloadAsked{By: by, Origin: origin}
		if origin == rollout.Watch {
			ask.Digest, _ = m.store.FileDigest(m.life, cfg.Worker.Command[0])
		}
		m.follow(by, m.reload(cfg, ask, ""))
	})
}

// follow reads an answer that nobody waits for.
func (m *Master) follow(by string, events <-chan api.Event) {
	for {
		select {
		case ev, ok := <-events:
			if !ok {
				return
			}
			if o := ev.Outcome; o != nil && o.Result != api.ResultDone {
				m.log.Error("reload", zap.String("by", by), zap.String("outcome", o.Result), zap.String("stage", o.Stage), zap.String("reason", o.Reason))
				m.at(func() { m.notifyTrouble("reload " + o.Result + ": " + o.Reason) })
			}
		case <-m.life.Done():
			return
		}
	}
}

// openWatch watches the configuration file and the program, if asked for.
func (m *Master) openWatch() {
	if !m.cfg.Rollout.Watch || m.watch != nil {
		return
	}
	w, err := watch.Open(watch.Options{Files: m.watched(), Log: m.log, Changed: func(c watch.Change) {
		m.log.Info("changed on disk", zap.Strings("files", c.Files))
		m.reloadUnattended("the file watch", rollout.Watch, true)
	}})
	if err != nil {
		m.log.Error("rollout.watch: files cannot be watched; reload by hand", zap.Error(err))
		return
	}
	m.watch = w
}

// setWatch follows a new configuration.
func (m *Master) setWatch() {
	switch {
	case m.cfg.Rollout.Watch && m.watch == nil:
		m.openWatch()
	case m.cfg.Rollout.Watch:
		m.watch.Set(m.watched())
	case m.watch != nil:
		w := m.watch
		m.watch = nil
		m.beside(w.Close)
	}
}

func (m *Master) watched() []string { return []string{m.cfg.File, m.cfg.Worker.Command[0]} }
