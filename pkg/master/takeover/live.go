package takeover

import (
	"bytes"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/masterd/masterd/pkg/master/config"
	"github.com/masterd/masterd/pkg/master/rollout"
	"github.com/masterd/masterd/pkg/master/state"
)

// What the next master needs is written before it is acted upon, so that there
// is no moment at which this one could die and leave something that nobody
// knows of. What was written and not done the next one sees by the processes
// that are there.

// refusedEvery is the least time between two lines about a runtime directory that cannot be
// written.
const refusedEvery = time.Minute

// liveFile is live.json as it was last written, with the configurations beside it.
type liveFile struct {
	text    []byte          // nil: it is written anew
	named   map[string]bool // by digest: the configurations that lie beside it
	stale   bool            // others may lie there, too
	refused time.Time       // when a line was last written about its not being written
	configs atomic.Int32    // how many it names; -1: it is not kept. For any goroutine
}

// KeepLive writes what has changed of it. A full runtime directory costs the
// next master its knowledge, never this one its service.
// It reports whether the next master will know what this one knows now.
func (t *Takeover) KeepLive() (kept bool) {
	if t.Master.Ousted() {
		return false
	}
	if t.System.KeepLive == nil {
		return true
	}
	l := t.live()
	text, err := l.Encode()
	if err == nil && bytes.Equal(text, t.file.text) {
		return true
	}
	if err == nil {
		err = t.keepConfigs()
	}
	if err == nil {
		err = t.System.KeepLive(t.RuntimeDir, text)
	}
	if err == nil {
		t.file.text = text
		err = t.dropConfigs(l.Configs)
	}
	if err == nil {
		return true
	}
	t.file.text = nil
	if time.Since(t.file.refused) >= refusedEvery {
		t.file.refused = time.Now()
		t.Log.Error("what the next master needs cannot be written: should this one die, its workers serve on, "+
			"and the next one may not know them", zap.Error(err))
	}
	return false
}

// KeepLiveAgain writes all that the next master needs, whatever was written before.
func (t *Takeover) KeepLiveAgain() {
	t.file.text, t.file.named = nil, nil
	t.KeepLive()
}

// LiveLost reports whether something of what was written for the next master lies there no
// more. It may be called from any goroutine.
func (t *Takeover) LiveLost() bool {
	configs, _ := filepath.Glob(filepath.Join(t.RuntimeDir, "config-*.yaml"))
	_, err := os.Lstat(filepath.Join(t.RuntimeDir, "live.json"))
	named := int(t.file.configs.Load())
	return named >= 0 && (os.IsNotExist(err) || len(configs) < named)
}

// live is all that another master needs to go on.
func (t *Takeover) live() state.Live {
	active := t.Generations.Active()
	l := state.Live{
		Boot: t.boot, Slots: t.Generations.Slots(), Masterd: t.Version, Machine: t.Master.Snapshot(),
		Revision: t.Blobs.Revision(), Comparison: t.Workers.Comparisons.Saved(),
		Cgroup: t.Contain.Cgroup(), Cgroups: t.Contain.Cgroups(), PID: os.Getpid(), Upgrade: t.upgrade,
		Active: state.LiveDeployment{Generation: uint64(active.Generation), Since: active.Since.Round(0), By: active.By,
			Why: active.Why},
	}
	indices := map[state.LiveConfig]int{}
	index := func(c state.LiveConfig) int {
		i, there := indices[c]
		if !there {
			i = len(l.Configs)
			indices[c] = i
			l.Configs = append(l.Configs, c)
		}
		return i
	}
	for _, g := range t.Generations.All() {
		l.Generations = append(l.Generations, state.LiveGeneration{
			ID: uint64(g.ID), Config: index(configOf(g.Config, &g.Digest)),
			Base: index(configOf(g.Config.Base(), &g.Base)) + 1, Version: g.Version.ID, By: g.By, Why: g.Why,
			Rollout: uint64(g.Rollout), Activated: g.Activated, Vetted: g.Vetted,
		})
	}
	for _, w := range t.Workers.All() {
		l.Workers = append(l.Workers, w.Live())
	}
	return l
}

// configOf names a configuration of a generation, which remembers its digest.
func configOf(c *config.Config, digest *string) state.LiveConfig {
	if *digest == "" {
		*digest = state.Digest(c.Source())
	}
	return state.LiveConfig{Digest: *digest, Program: c.Worker.Command[0]}
}

// keepConfigs writes the configurations that are not there yet, before live.json
// names them.
func (t *Takeover) keepConfigs() error {
	for _, g := range t.Generations.All() {
		for _, c := range []struct {
			*config.Config
			digest *string
		}{{g.Config, &g.Digest}, {g.Config.Base(), &g.Base}} {
			digest := configOf(c.Config, c.digest).Digest
			if t.file.named[digest] {
				continue
			}
			if err := state.KeepConfig(t.RuntimeDir, digest, c.Source()); err != nil {
				return err
			}
			if t.file.named == nil {
				t.file.named = map[string]bool{}
			}
			t.file.named[digest], t.file.stale = true, true // or the directory has those of an earlier master still
		}
	}
	return nil
}

// dropConfigs removes the configurations that live.json has stopped to name: it
// must have been written before, as this master may die at any moment.
func (t *Takeover) dropConfigs(named []state.LiveConfig) error {
	now := map[string]bool{}
	for _, c := range named { // one text may be there with several programs
		now[c.Digest] = true
	}
	t.file.configs.Store(int32(len(now)))
	if !t.file.stale && len(t.file.named) == len(now) {
		return nil
	}
	t.Master.Effect(configsDropped{})
	if err := state.DropConfigs(t.RuntimeDir, named); err != nil {
		return err
	}
	t.file.named, t.file.stale = now, false
	return nil
}

// configsDropped is a moment at which a test may have the master die.
type configsDropped struct{}

// Notable reports whether the fact changes what the next master needs, whatever follows
// from it.
func Notable(ev rollout.Event) bool {
	switch ev.(type) {
	case rollout.Beat, rollout.Probed, rollout.Ticked:
		return false
	}
	return true
}

// Forget removes what was written for a next master: the service has stopped, nobody is to
// be taken over.
func (t *Takeover) Forget() error {
	if !t.Master.Stopped() || t.Master.Ousted() {
		return nil // it never ran, or has lost its place: what is there is another master's
	}
	return state.DropLive(t.RuntimeDir)
}
