package generations

import (
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/masterd/masterd/pkg/master/config"
	"github.com/masterd/masterd/pkg/master/rollout"
	"github.com/masterd/masterd/pkg/master/state"
	"github.com/masterd/masterd/pkg/master/version"
)

// inForce is the configuration that the generation with the traffic runs with.
type inForce struct {
	generation rollout.Generation // whose configuration it is; zero: the one of the start
	config     *config.Config
	degraded   string // why it is not what the file says; empty: it is
	looking    bool   // somebody looks whether it still is not
}

// InForce is the configuration in force.
func (s *Set) InForce() *config.Config { return s.inForce.config }

// Degraded is why the configuration in force is not what the file says; empty: it is.
func (s *Set) Degraded() string { return s.inForce.degraded }

// SetDegraded says why the configuration in force is not what the file says.
func (s *Set) SetDegraded(why string) { s.inForce.degraded = why }

// Resume goes on with what an earlier master has left in force.
func (s *Set) Resume(d state.LiveDeployment) {
	s.active = Deployment{Generation: rollout.Generation(d.Generation), Since: d.Since, By: d.By, Why: d.Why}
	if g := s.all[s.active.Generation]; g != nil {
		s.inForce.config, s.inForce.generation = g.Config, g.ID
	}
}

// FollowTraffic takes the configuration of the generation that has the traffic into force,
// a new one's or on a rollback the one it had, and remembers who brought it.
func (s *Set) FollowTraffic(active rollout.Generation) {
	g := s.all[active]
	if g == nil || s.inForce.generation == g.ID {
		return
	}
	s.inForce.generation = g.ID
	s.Master.TrafficMoves()
	if s.active.Generation != g.ID {
		s.active = Deployment{Generation: g.ID, Since: time.Now(), By: g.By, Why: g.Why}
	}
	s.Log.Info("the traffic has moved", zap.Uint64("generation", uint64(g.ID)), zap.String("version", g.Version.Label))
	if before := s.inForce.config; g.Config != before {
		s.inForce.config = g.Config
		if g.Config.Base() != before.Base() { // else the file is what it was
			s.inForce.degraded = ""
		}
		s.Master.Configured(before)
		s.settle()
	}
	s.remember()
	s.Tidy()
}

// settle gives open listeners what the configuration in force says of them: the preparation
// of another may have changed their mode, group or backlog. It may look up groups: not in
// the loop.
func (s *Set) settle() {
	ls := s.inForce.config.Listeners
	s.Loop.Go(func() {
		if err := s.Sockets.Settle(ls); err != nil && s.Loop.Life().Err() == nil {
			s.Log.Error("listeners cannot be given back what is configured", zap.Error(err))
		}
	})
}

// remember keeps the configuration in force as the last good one: what a start falls back
// to when the file is broken then.
func (s *Set) remember() {
	if cfg := s.inForce.config.Base(); s.Remember != nil {
		s.Disk.Later("the last good configuration", func() error { return s.Remember(cfg) })
	}
}

// LookAtFile ends the complaint about a configuration that could not be used, once that is
// over, and tells what is refused of what is in force: a directory may be given away, or
// back. It looks beside the loop.
func (s *Set) LookAtFile() {
	g := s.all[s.inForce.generation]
	if g == nil && s.inForce.degraded == "" || s.inForce.looking {
		return
	}
	s.inForce.looking = true
	degraded := s.inForce.degraded != ""
	s.Loop.Go(func() {
		usable := degraded && s.FileUsable()
		var refused error
		if g != nil {
			refused = config.Refused(g.Config.Listeners, g.Version.EnvFiles)
		}
		s.Loop.Post(func() {
			s.inForce.looking = false
			if g != nil {
				if refused != nil && g.Refused == nil {
					s.Log.Error("degraded", zap.String("reason", WhyRefused(refused)))
				}
				g.Refused = refused
			}
			if usable && s.inForce.degraded != "" {
				s.inForce.degraded = ""
				s.Log.Info("the configuration on disk can be used again; `masterd reload` takes it over",
					zap.String("file", s.inForce.config.File))
				s.Master.FileMended()
			}
		})
	})
}

// FileUsable reports whether the configuration on disk can be used. It may be called from
// any goroutine.
func (s *Set) FileUsable() bool {
	_, err := s.Reread()
	return err == nil
}

// A masterd may refuse what an earlier one took, such as a listener in a directory that is not
// trusted any more. It refuses that at a check, in the preparation of each version (of a kept
// one, too, with the files that it was pinned with), and when it is to prove that it could
// take over. It never strikes what runs: at a takeover it is logged, and what an earlier
// masterd has started without that look goes on. The generation in force is looked at
// again with each pulse, so that status says what is true now.

// startable says which path keeps a version from being started with a configuration.
func startable(c *config.Config, v version.Version) error {
	if err := config.Refused(c.Listeners, v.EnvFiles); err != nil {
		return fmt.Errorf("version %s cannot be started: %w", v.Label, err)
	}
	return nil
}

// LookAtRefused tells at a takeover which paths of what runs would be refused anew.
func (s *Set) LookAtRefused() {
	for _, g := range s.All() {
		g.Refused = config.Refused(g.Config.Listeners, g.Version.EnvFiles)
	}
	if err := s.Refused(); err != nil {
		s.Log.Error("degraded", zap.String("reason", WhyRefused(err)))
	}
}

// Refused says which path of the generation in force is not used any more.
func (s *Set) Refused() error {
	if g := s.all[s.inForce.generation]; g != nil {
		return g.Refused
	}
	return nil
}

// WhyRefused says to an operator what follows from Refused.
func WhyRefused(err error) string {
	return fmt.Sprintf("What runs goes on as it was started, and is refused at the next reload: %v", err)
}
