// Package generations has what runs and what is about to run: the generations that there
// are, the configuration in force, and the preparation of each rollout.
//
// A [Set] belongs to the master's loop: all methods are called there, unless they say
// otherwise.
package generations

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/masterd/masterd/pkg/master/blob"
	"github.com/masterd/masterd/pkg/master/config"
	"github.com/masterd/masterd/pkg/master/counters"
	"github.com/masterd/masterd/pkg/master/disk"
	"github.com/masterd/masterd/pkg/master/listen"
	"github.com/masterd/masterd/pkg/master/loop"
	"github.com/masterd/masterd/pkg/master/rollout"
	"github.com/masterd/masterd/pkg/master/state"
	"github.com/masterd/masterd/pkg/master/version"
	"github.com/masterd/masterd/pkg/master/workers"
)

// maxTraces is how many rollouts' trace ids are remembered; of older ones nothing is
// logged any more.
const maxTraces = 256

// Options are what a set needs of its master. Versions, Sockets, Memory and Mend may be set
// later, before they are needed.
type Options struct {
	Loop     *loop.Loop
	Log      *zap.Logger
	Disk     *disk.Writer
	Workers  *workers.Set
	Blobs    *blob.Set
	Counters *counters.Set
	Reread   func() (*config.Config, error) // reads the configuration on disk
	Remember func(*config.Config) error     // keeps one that was taken into force; nil: nobody does
	NewTrace func() string                  // makes a trace id
	HookEnv  []string                       // what hooks are given besides the facts
	Master   Master

	Versions Versions
	Sockets  Sockets
	Memory   func(workers [][]int) rollout.Memory
	Mend     func() // makes again what is gone from the runtime directory
}

// Master is the loop's owner, as far as generations matter to it.
type Master interface {
	Step(ev rollout.Event)   // tells the machine a fact
	Machine() rollout.Status // what the machine knows
	TrafficMoves()           // to another generation; the configuration in force is still the one before
	Configured(before *config.Config)
	FileMended() // the configuration on disk can be used again
}

// Versions is [version.Store].
type Versions interface {
	Pin(ctx context.Context, s version.Source) (version.Version, error)
	Get(id string) (version.Version, bool)
	Prune(keep int, inUse map[string]bool) ([]string, error)
	Prove(id string, settings json.RawMessage) error
}

// Sockets is [listen.Set].
type Sockets interface {
	Slots() int
	Grow(slots int) error
	Add(ls []config.Listener) error
	Settle(ls []config.Listener) error
	CanSplit(ls []config.Listener) error
	Retain(ls []config.Listener)
}

// Deployment is who brought the generation that has the traffic.
type Deployment struct {
	Generation rollout.Generation
	Since      time.Time
	By, Why    string
}

// Set is all generations, and what is prepared to become one.
type Set struct {
	Options
	all         map[rollout.Generation]*workers.Generation
	inForce     inForce
	active      Deployment
	plans       map[rollout.Rollout]*plan
	tried       *plan            // of the last reload, whatever has become of it; nil: there was none
	asked       map[string]*plan // by token, until the machine says Prepare
	lastRollout rollout.Rollout
	traces      map[rollout.Rollout]string
	slots       int // of each listener, as the machine knows
}

// New makes a set without generations. degraded is why cfg is not what the file says;
// empty: it is.
func New(o Options, cfg *config.Config, degraded string) *Set {
	return &Set{
		Options: o, inForce: inForce{config: cfg, degraded: degraded}, slots: Slots(cfg),
		all: map[rollout.Generation]*workers.Generation{}, plans: map[rollout.Rollout]*plan{}, asked: map[string]*plan{},
		traces: map[rollout.Rollout]string{},
	}
}

// Get is a generation that there is; nil: there is none.
func (s *Set) Get(id rollout.Generation) *workers.Generation { return s.all[id] }

// All are all generations, by their numbers.
func (s *Set) All() []*workers.Generation {
	all := make([]*workers.Generation, 0, len(s.all))
	for _, g := range s.all {
		all = append(all, g)
	}
	slices.SortFunc(all, func(a, b *workers.Generation) int { return int(a.ID) - int(b.ID) })
	return all
}

// Add has the set know a generation.
func (s *Set) Add(g *workers.Generation) { s.all[g.ID] = g }

// Clear forgets all generations.
func (s *Set) Clear() { clear(s.all) }

// Of finds a generation, or makes it from the plan of the rollout that is running: a Start
// names one for the first time. nil: nothing was prepared for it.
func (s *Set) Of(id rollout.Generation) *workers.Generation {
	if g := s.all[id]; g != nil {
		return g
	}
	st := s.Master.Machine()
	if st.Rollout == nil {
		return nil
	}
	p := s.plans[st.Rollout.ID]
	if p == nil {
		return nil
	}
	g := &workers.Generation{
		ID: id, Config: p.cfg, Version: p.version, Checker: s.Workers.System.Checker(p.cfg.Health),
		By: st.Rollout.By, Why: st.Rollout.Why, Rollout: st.Rollout.ID, Vetted: true,
	}
	s.Add(g)
	return g
}

// Adopt takes over a generation that an earlier master has left. cfg is what it runs with, or
// what that was made of, where an earlier masterd does not say; ran the version that the machine
// knew it by.
func (s *Set) Adopt(l state.LiveGeneration, cfg *config.Config, ran rollout.Version) {
	v, ok := s.Versions.Get(l.Version)
	switch {
	case ok && l.Base == 0:
		then := kept(v)
		then.Own = nil // that masterd knew nothing of it
		cfg, _ = cfg.For(then)
	case !ok:
		s.Log.Error("the version of a generation is not in the store any more; it goes on, but cannot be started again",
			zap.Uint64("generation", l.ID), zap.String("version", l.Version))
		v = version.Version{ID: l.Version, Digest: ran.Digest, Label: ran.Label}
	}
	g := &workers.Generation{
		ID: rollout.Generation(l.ID), Config: cfg, Version: v, Checker: s.Workers.System.Checker(cfg.Health), By: l.By,
		Why:     l.Why,
		Rollout: rollout.Rollout(l.Rollout), Activated: l.Activated, Vetted: l.Vetted,
	}
	s.Add(g)
	if ok && len(v.Settings) == 0 && l.Activated {
		s.prove(g) // an earlier masterd has kept it without, and now it would be too late
	}
	s.lastRollout = max(s.lastRollout, rollout.Rollout(l.Rollout))
}

// Active is who brought the generation that has the traffic.
func (s *Set) Active() Deployment { return s.active }

// LastRollout is the youngest that was prepared.
func (s *Set) LastRollout() rollout.Rollout { return s.lastRollout }

// Slots is the size of each listener's pool, as the machine knows it.
func (s *Set) Slots() int { return s.slots }

// SetSlots says how large the pools are that were opened, or are to be.
func (s *Set) SetSlots(n int) { s.slots = n }

// Trace is the trace id that all lines of one rollout share. It is made for one that has
// none yet.
func (s *Set) Trace(r rollout.Rollout) string {
	if t, ok := s.traces[r]; ok {
		return t
	}
	t := s.NewTrace()
	s.traces[r] = t
	if r > maxTraces {
		delete(s.traces, r-maxTraces)
	}
	return t
}

// KnownTrace is the trace id of a rollout; empty: it has none.
func (s *Set) KnownTrace(r rollout.Rollout) string { return s.traces[r] }

// Recorded follows what the machine has had written into the history.
func (s *Set) Recorded(e rollout.Entry) {
	// A rollback to the parked generation is nobody's rollout: it is this asker who
	// brought it now. One to a version that had ended is, and FollowTraffic has noted it.
	if e.What == "rollback" && e.Code == rollout.Done && e.Rollout == 0 && e.From != e.To {
		s.active = Deployment{Generation: e.To, Since: time.Now(), By: e.By, Why: e.Why}
	}
	if e.Rollout == 0 {
		return
	}
	if e.Code == rollout.Done && e.Stage == rollout.StageBaked {
		s.prove(s.all[e.To])
	}
	s.Tidy() // it has ended, or moved the traffic: nothing more is prepared for it
	if e.Code != rollout.Done {
		s.settle()
	}
}

// prove has the store keep the settings that a generation has proved itself with: a way
// back to its version is run with them.
func (s *Set) prove(g *workers.Generation) {
	if g == nil {
		return
	}
	id, settings := g.Version.ID, g.Config.Own()
	s.Disk.Later("the settings of a version", func() error { return s.Versions.Prove(id, settings) })
}

// Tidy forgets generations and plans that the machine has forgotten, and closes listeners
// that nothing needs any more.
func (s *Set) Tidy() {
	st := s.Master.Machine()
	known := map[rollout.Generation]bool{}
	for _, g := range st.Generations {
		known[g.ID] = true
	}
	for id, g := range s.all {
		if !known[id] {
			delete(s.all, id)
			if !g.Activated {
				s.Blobs.ForgetGeneration(uint64(id)) // it leaves no trace
			}
		}
	}
	s.Counters.Retain(func(g uint64) bool { return known[rollout.Generation(g)] })
	for id, p := range s.plans {
		if st.Rollout == nil || st.Rollout.ID != id {
			p.cancel()
			delete(s.plans, id)
		}
	}
	var needed []config.Listener
	need := func(c *config.Config) { needed = append(needed, c.Listeners...) }
	need(s.inForce.config)
	for _, g := range s.all {
		need(g.Config)
	}
	for _, p := range s.plans {
		need(p.cfg)
	}
	s.Sockets.Retain(needed)
}

// Listeners are those of the configuration in force and of all that runs.
func (s *Set) Listeners() []config.Listener {
	all := slices.Clone(s.inForce.config.Listeners)
	for _, g := range s.All() {
		for _, l := range g.Config.Listeners {
			if !slices.ContainsFunc(all, func(x config.Listener) bool { return listen.Same(x, l) }) {
				all = append(all, l)
			}
		}
	}
	return all
}

// Retain lets go of versions beyond keep_versions that nothing needs.
func (s *Set) Retain(c rollout.Retain) {
	inUse := map[string]bool{}
	for _, id := range c.InUse {
		inUse[id] = true
	}
	keep := s.inForce.config.Rollout.KeepVersions
	s.Disk.Later("old versions", func() error {
		gone, err := s.Versions.Prune(keep, inUse)
		if len(gone) > 0 {
			s.Log.Info("versions removed", zap.Strings("versions", gone))
		}
		return err
	})
}
