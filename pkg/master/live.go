package master

import (
	"bytes"
	"os"
	"time"

	"go.uber.org/zap"

	"github.com/masterd/masterd/pkg/master/rollout"
	"github.com/masterd/masterd/pkg/master/state"
)

// What the next master needs is written before it is acted upon, so that there
// is no moment at which this one could die and leave something that nobody
// knows of. What was written and not done the next one sees by the processes
// that are there.

// liveRefusedEvery is the least time between two lines about a runtime
// directory that cannot be written.
const liveRefusedEvery = time.Minute

// keepLive writes what has changed of it. A full runtime directory costs the
// next master its knowledge, never this one its service.
// It reports whether the next master will know what this one knows now.
func (m *Master) keepLive() (kept bool) {
	if m.ousted.Load() {
		return false
	}
	if m.system.keepLive == nil {
		return true
	}
	l := m.live()
	text, err := l.Encode()
	if err == nil && bytes.Equal(text, m.kept) {
		return true
	}
	if err == nil {
		err = m.keepConfigs()
	}
	if err == nil {
		err = m.system.keepLive(m.opt.Config.RuntimeDir, text)
	}
	if err == nil {
		m.kept = text
		err = m.dropConfigs(l.Configs)
	}
	if err == nil {
		return true
	}
	m.kept = nil
	if time.Since(m.liveRefused) >= liveRefusedEvery {
		m.liveRefused = time.Now()
		m.log.Error("what the next master needs cannot be written: should this one die, its workers serve on, and the next one may not know them", zap.Error(err))
	}
	return false
}

// live is all that another master needs to go on.
func (m *Master) live() state.Live {
	l := state.Live{
		Boot: m.boot, Slots: m.slots, Masterd: m.opt.Version, Machine: m.machine.Snapshot(), Revision: m.blobs.Revision(), Cgroup: m.contain.Cgroup(), Cgroups: m.contain.Cgroups(), PID: os.Getpid(), Upgrade: m.upgrade,
		Active: state.LiveDeployment{Generation: uint64(m.active.generation), Since: m.active.since.Round(0), By: m.active.by, Why: m.active.why},
	}
	config := map[state.LiveConfig]int{}
	for _, g := range sorted(m.generations) {
		c := m.configOf(g)
		i, there := config[c]
		if !there {
			i = len(l.Configs)
			config[c] = i
			l.Configs = append(l.Configs, c)
		}
		l.Generations = append(l.Generations, state.LiveGeneration{
			ID: uint64(g.id), Config: i, Version: g.version.ID, By: g.by, Why: g.why, Rollout: uint64(g.rollout), Activated: g.activated, Vetted: g.vetted,
		})
	}
	for _, w := range sorted(m.workers) {
		l.Workers = append(l.Workers, w.live())
	}
	return l
}

func (w *worker) live() state.LiveWorker {
	l := state.LiveWorker{
		ID: uint64(w.id), Generation: uint64(w.generation.id), Slot: int(w.slot), Begun: w.begun, UID: w.uid,
		Secret: w.secret.hash, SecretNext: w.secret.next, Renewed: w.secret.renewed, Protocol: w.protocol,
		Started: w.started.Round(0), Handed: w.handed, Paused: w.paused, Leaving: w.leaving, Announced: w.announced, Stopped: w.stopped,
		ParkedAt: w.parkedAt, Works: w.background.runs, WorkWaits: w.background.waits, WorksUntil: w.background.toldEnd.Round(0),
		Group: w.group, Asked: w.asked, SaysReady: w.saysReady, Says: w.says, Errno: w.errno, NotifyAccess: string(w.access), Bound: w.bound,
	}
	if w.process != nil {
		l.PID = w.process.PID()
	}
	return l
}

// configOf names the configuration that a generation runs with.
func (m *Master) configOf(g *generation) state.LiveConfig {
	if g.digest == "" {
		g.digest = state.Digest(g.cfg.Source())
	}
	return state.LiveConfig{Digest: g.digest, Program: g.cfg.Worker.Command[0]}
}

// keepConfigs writes the configurations that are not there yet, before live.json
// names them.
func (m *Master) keepConfigs() error {
	for _, g := range m.generations {
		c := m.configOf(g)
		if m.keptConfigs[c.Digest] {
			continue
		}
		if err := state.KeepConfig(m.opt.Config.RuntimeDir, c.Digest, g.cfg.Source()); err != nil {
			return err
		}
		if m.keptConfigs == nil {
			m.keptConfigs = map[string]bool{}
		}
		m.keptConfigs[c.Digest], m.keptStale = true, true // or the directory has those of an earlier master still
	}
	return nil
}

// dropConfigs removes the configurations that live.json has stopped to name: it
// must have been written before, as this master may die at any moment.
func (m *Master) dropConfigs(named []state.LiveConfig) error {
	now := map[string]bool{}
	for _, c := range named { // one text may be there with several programs
		now[c.Digest] = true
	}
	m.liveKept.Store(int32(len(now)))
	if !m.keptStale && len(m.keptConfigs) == len(now) {
		return nil
	}
	m.effect(configsDropped{})
	if err := state.DropConfigs(m.opt.Config.RuntimeDir, named); err != nil {
		return err
	}
	m.keptConfigs, m.keptStale = now, false
	return nil
}

// configsDropped is a moment at which a test may have the master die.
type configsDropped struct{}

// notable: the fact changes what the next master needs, whatever follows from it.
func notable(ev rollout.Event) bool {
	switch ev.(type) {
	case rollout.Beat, rollout.Probed, rollout.Ticked:
		return false
	}
	return true
}
