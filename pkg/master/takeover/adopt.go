package takeover

import (
	"fmt"
	"slices"

	"go.uber.org/zap"

	"github.com/masterd/masterd/pkg/master/config"
	"github.com/masterd/masterd/pkg/master/listen"
	"github.com/masterd/masterd/pkg/master/process"
	"github.com/masterd/masterd/pkg/master/rollout"
	"github.com/masterd/masterd/pkg/master/state"
	"github.com/masterd/masterd/pkg/master/traffic"
)

// A master that starts takes over what the one before has left: the sockets from the keeper
// (or, if that has died with it, from the workers: package salvage), the workers by their
// process ids, and what was decided from live.json. What serves is not touched.

// Adopt finds the workers that earlier masters have left, and takes over those that are
// known. The versions and the workers' containment must be open by then.
func (t *Takeover) Adopt() {
	all := t.processesOfService()
	if t.left != nil {
		t.adopt(t.left, all)
	}
	t.adoptCounters()
	t.unknownLeft(all)
	t.deserted = t.Workers.Len() == 0 && len(t.unknown) == 0
}

// adopt takes over the workers that the last master has left, those that still live. What
// runs decides which configuration is in force: the file may have changed since.
func (t *Takeover) adopt(l *state.Live, all map[uint64][]process.Found) {
	versions := map[rollout.Generation]rollout.Version{}
	for _, g := range l.Machine.Generations {
		versions[g.ID] = g.Version
	}
	for _, g := range l.Generations {
		cfg, err := left{t.RuntimeDir, l, t.Parse}.config(g)
		if err != nil {
			t.Log.Error("the configuration of a generation cannot be read any more; it goes on with the one in force",
				zap.Uint64("generation", g.ID), zap.Error(err))
			cfg = t.Generations.InForce()
		}
		t.Generations.Adopt(g, cfg, versions[rollout.Generation(g.ID)])
	}
	found := &rollout.Found{Snapshot: l.Machine, Alive: map[rollout.Worker]int{}}
	for _, lw := range l.Workers {
		// started just when the last master died
		if i := slices.IndexFunc(all[lw.ID], func(p process.Found) bool { return p.Leads }); i >= 0 && lw.PID == 0 {
			lw.PID, lw.Begun = all[lw.ID][i].PID, all[lw.ID][i].Begun
		}
		g := t.Generations.Get(rollout.Generation(lw.Generation))
		if g == nil || lw.PID == 0 {
			continue
		}
		if w := t.Workers.Adopt(lw, g); w != nil {
			found.Alive[w.ID] = w.PID()
		}
	}
	if t.Workers.Len() == 0 && !l.Machine.Between() {
		t.Generations.Clear()
		return
	}
	t.Workers.Unblock(t.Given)
	t.found = found
	if len(l.Comparison) > 0 {
		if err := t.Workers.Comparisons.Restore(l.Comparison); err != nil {
			t.Log.Warn("what was compared of a canary's versions cannot be read: it begins anew", zap.Error(err))
		}
	}
	t.Generations.SetSlots(max(t.Generations.Slots(), l.Slots))
	t.Generations.Resume(l.Active)
}

// left reads the configurations that a last master has left in a runtime directory.
type left struct {
	dir   string
	live  *state.Live
	parse func(text []byte) (*config.Config, error)
}

// config is what a generation runs with.
func (l left) config(g state.LiveGeneration) (*config.Config, error) {
	if g.Base == 0 || g.Base-1 == g.Config {
		return l.written(g, g.Config)
	}
	base, err := l.written(g, g.Base-1)
	if err != nil {
		return nil, err
	}
	text, _, err := l.text(g, g.Config)
	if err != nil {
		return nil, err
	}
	return base.Adopt(text)
}

// written is a configuration that somebody has written.
func (l left) written(g state.LiveGeneration, i int) (*config.Config, error) {
	text, program, err := l.text(g, i)
	if err != nil {
		return nil, err
	}
	cfg, err := l.parse(text)
	if err != nil {
		return nil, err
	}
	if program != "" && program != cfg.Worker.Command[0] {
		cfg = config.WithCommand(cfg, program)
	}
	return cfg, nil
}

// text is one that live.json names, and the program that it was run with.
func (l left) text(g state.LiveGeneration, i int) (text []byte, program string, err error) {
	if i < 0 || i >= len(l.live.Configs) {
		return nil, "", fmt.Errorf("generation %d names configuration %d of %d", g.ID, i, len(l.live.Configs))
	}
	text, err = state.LoadConfig(l.dir, l.live.Configs[i].Digest)
	return text, l.live.Configs[i].Program, err
}

// Holders are the workers that were found: should the keeper have died with
// the last master, its sockets are still to be had from them.
func (t *Takeover) Holders() []listen.Holder {
	var all []listen.Holder
	for _, w := range t.Workers.All() {
		all = append(all, listen.Holder{Slot: int(w.Slot), PID: w.PID()})
	}
	return all
}

// Shares are where new connections went when the last master died, as far as it
// could note it.
func (t *Takeover) Shares() []listen.Share {
	if t.left == nil {
		return nil
	}
	return traffic.Shares(t.left.Machine.Have)
}

// Sticky is the salt that went with them.
func (t *Takeover) Sticky() uint32 {
	if t.left == nil {
		return 0
	}
	return t.left.Machine.Sticky()
}

// Follow has the ends of adopted workers told, once the loop runs.
func (t *Takeover) Follow() {
	if t.found == nil {
		return
	}
	t.EndUnknown()
	t.Workers.Follow()
}
