package generations

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/masterd/masterd/pkg/master/check"
	"github.com/masterd/masterd/pkg/master/config"
	"github.com/masterd/masterd/pkg/master/hook"
	"github.com/masterd/masterd/pkg/master/listen"
	"github.com/masterd/masterd/pkg/master/rollout"
	"github.com/masterd/masterd/pkg/master/version"
	"github.com/masterd/masterd/pkg/master/workers"
)

const (
	// prepareTimeout bounds the preparation of a rollout: hooks may take their time.
	prepareTimeout = 5 * time.Minute
	// maxAsked is how many reloads may wait for the machine to say Prepare; a newer one
	// takes the oldest one's place anyway.
	maxAsked = 64
)

// plan is what a rollout is about to run: the configuration it was asked with and, once
// prepared, the pinned version.
type plan struct {
	cfg     *config.Config
	label   string // given by the asker; empty: found out
	rollout rollout.Rollout
	version version.Version
	cancel  func() // of the preparation
}

// Ask keeps what a reload was asked with. The machine says the token in Prepare.
func (s *Set) Ask(token string, cfg *config.Config, label string) {
	if len(s.asked) < maxAsked {
		s.asked[token] = &plan{cfg: cfg, label: label}
	}
}

// Tried is what the last reload was to run, whatever has become of it: its rollout, the
// configuration, and the digest of the program once that is known. Zero: there was none.
func (s *Set) Tried() (id rollout.Rollout, cfg *config.Config, digest string) {
	if s.tried == nil {
		return 0, nil, ""
	}
	return s.tried.rollout, s.tried.cfg, s.tried.version.Digest
}

// Answered forgets what a reload was asked with, if it was not prepared.
func (s *Set) Answered(token string) { delete(s.asked, token) }

// preparation is all that is known of a rollout when its preparation begins.
type preparation struct {
	rollout rollout.Rollout
	kept    *rollout.Version // that is to run again; nil: what the configuration names is pinned
	cfg     *config.Config   // that it was asked with
	label   string
	reload  bool           // a person, a signal or the file watch has asked
	leaders map[uint64]int // of the groups of the workers that have the traffic
	canary  canary
	trace   string
}

// prepared is what a preparation has led to.
type prepared struct {
	version version.Version
	cfg     *config.Config // as the version knows it
	memory  rollout.Memory
	notice  string // for who has asked
	// of a kept version
	settings *rollout.Settings
}

// Prepare makes ready what a rollout is to run, beside the loop, and tells the machine.
func (s *Set) Prepare(c rollout.Prepare) {
	for id, p := range s.plans { // one rollout at a time: an older one was superseded
		p.cancel()
		delete(s.plans, id)
	}
	p := s.asked[c.Token]
	delete(s.asked, c.Token)
	reload := p != nil
	if !reload {
		p = &plan{cfg: s.inForce.config.Base()}
	} else {
		p.rollout, s.tried = c.Rollout, p
	}
	ctx, cancel := context.WithTimeout(s.Loop.Life(), prepareTimeout)
	p.cancel = cancel
	s.plans[c.Rollout] = p
	s.lastRollout = max(s.lastRollout, c.Rollout)
	r := preparation{rollout: c.Rollout, kept: c.Version, cfg: p.cfg, label: p.label, reload: reload,
		leaders: map[uint64]int{}, trace: s.Trace(c.Rollout)}
	for _, w := range s.Workers.All() {
		if w.Generation.ID == s.Master.Machine().Active && w.Leads() != 0 {
			r.leaders[uint64(w.ID)] = w.Leads()
		}
	}
	r.canary = s.canary(r)
	s.Loop.Go(func() {
		ready, err := s.prepare(ctx, r)
		s.Loop.Post(func() {
			if err != nil {
				s.Master.Step(rollout.PrepareFailed{Rollout: c.Rollout, Reason: err.Error()})
			} else {
				p.version, p.cfg = ready.version, ready.cfg
				s.Master.Step(rollout.Prepared{Rollout: c.Rollout, Version: Ref(ready.version), Memory: ready.memory,
					Settings: ready.settings, Notice: ready.notice})
			}
			s.Tidy() // it may have been given up meanwhile, and listeners were opened for it
		})
	})
}

// prepare pins what a rollout is to run, opens listeners it adds, runs the "before" hooks
// and looks at memory. Nothing of it touches what serves. It is called beside the loop.
func (s *Set) prepare(ctx context.Context, r preparation) (ready prepared, err error) {
	s.Mend() // a worker that is started now needs its sockets now
	v, err := s.pin(ctx, r)
	if err != nil {
		return ready, err
	}
	cfg := r.cfg
	if r.reload { // a start, and a rollback, can do with standard error
		if err := config.RefusedLog(cfg); err != nil {
			return ready, err
		}
	}
	if r.kept != nil {
		var note string
		if cfg, note = cfg.For(kept(v)); note != "" {
			ready.notice = "version " + v.Label + " " + note
		}
		settings := Settings(cfg)
		ready.settings = &settings
		if len(cfg.Listeners) == 0 && len(r.cfg.Listeners) > 0 {
			return ready, fmt.Errorf("version %s knows none of the listeners that are configured now, only %s: "+
				"give them these names again and reload",
				v.Label, strings.Join(v.Listeners, ", "))
		}
	}
	if err := startable(cfg, v); err != nil {
		return ready, err
	}
	if err := s.splittable(r.canary, v); err != nil {
		return ready, err
	}
	if err := s.Sockets.Add(cfg.Listeners); err != nil {
		return ready, s.heldByWorker(err)
	}
	if err := s.Grow(SlotsFor(cfg, max(cfg.Worker.Processes, len(r.leaders)))); err != nil { // it may have been scaled
		return ready, err
	}
	facts := hook.Facts{Service: r.cfg.Service, Rollout: uint64(r.rollout), Version: v.Label, Digest: v.Digest,
		TraceID: r.trace}
	if err := s.require(ctx, r.cfg.Rollout.Require, facts); err != nil {
		return ready, err
	}
	if err := s.runHooks(ctx, "before", r.cfg.Rollout.Hooks.Before, facts); err != nil {
		return ready, err
	}
	groups := sync.OnceValue(s.Workers.System.Groups)
	var processes [][]int
	for worker, leader := range r.leaders {
		processes = append(processes, s.Workers.Processes(worker, leader, groups))
	}
	ready.version, ready.cfg, ready.memory = v, cfg, s.Memory(processes)
	if r.kept == nil {
		ready.notice = strings.Join(check.Kind(cfg), "; ")
	}
	return ready, nil
}

// heldByWorker says so of an address that a worker of this service has. It is called beside the
// loop.
func (s *Set) heldByWorker(err error) error {
	if e, is := errors.AsType[*listen.Error](err); is && e.PID != 0 {
		if id, ours := s.Workers.WorkerWith(e.PID); ours {
			return workers.HeldByWorker(e, id)
		}
	}
	return err
}

// pin brings the version into the store, or finds the kept one.
func (s *Set) pin(ctx context.Context, r preparation) (version.Version, error) {
	if r.kept == nil {
		return s.Versions.Pin(ctx, check.Source(r.cfg, r.label))
	}
	v, ok := s.Versions.Get(r.kept.ID)
	if !ok {
		return v, fmt.Errorf("version %s (%s) is not in the store any more", r.kept.Label, r.kept.ID)
	}
	return v, nil
}

// Grow makes the pools of slots as large as is needed. It is called beside the loop.
func (s *Set) Grow(slots int) error {
	if err := s.Sockets.Grow(slots); err != nil {
		return fmt.Errorf("making the pool of slots larger: %w", err)
	}
	s.Loop.Post(func() {
		if now := s.Sockets.Slots(); now > s.slots {
			s.Log.Info("the pool of slots has grown", zap.Int("from", s.slots), zap.Int("to", now))
			s.slots = now
			s.Master.Step(rollout.Grown{Slots: now})
		}
	})
	return nil
}

// kept is a version as a configuration wants to know it.
func kept(v version.Version) config.Kept {
	return config.Kept{Command: v.Args, Env: v.Env, Listeners: v.Listeners, Own: v.Settings}
}

// Ref is all that the machine knows of a version.
func Ref(v version.Version) rollout.Version {
	return rollout.Version{ID: v.ID, Digest: v.Digest, Label: v.Label}
}
