package master

import (
	"time"

	"go.uber.org/zap"

	"github.com/masterd/masterd/pkg/master/config"
	"github.com/masterd/masterd/pkg/master/rollout"
	"github.com/masterd/masterd/pkg/master/version"
)

// plan is what a rollout is about to run: the configuration it was asked with
// and, once prepared, the pinned version.
type plan struct {
	token   string
	cfg     *config.Config
	label   string // given by the asker; empty: found out
	by, why string
	version version.Version
	cancel  func() // of the preparation
}

// generation is what the loop must know of a generation to run its workers.
type generation struct {
	id        rollout.Generation
	slot      rollout.Slot // of its first worker
	cfg       *config.Config
	version   version.Version
	checker   checker
	by, why   string
	rollout   rollout.Rollout
	digest    string         // of the configuration's text, once asked for
	vetted    bool           // this masterd, or one like it, has looked at its paths: see config.Refused
	activated bool           // one of its workers was told that it is active, once
	last      rollout.Worker // the one that was started last: its output explains a failure that names none
}

// names are the listeners of the generation.
func (g *generation) names() []string { return names(g.cfg.Listeners) }

// generationOf finds a generation, or makes it from the plan of the rollout
// that is running: a Start names one for the first time.
func (m *Master) generationOf(id rollout.Generation) *generation {
	if g := m.generations[id]; g != nil {
		return g
	}
	st := m.machine.Status()
	if st.Rollout == nil {
		return nil
	}
	p := m.plans[st.Rollout.ID]
	if p == nil {
		return nil
	}
	g := &generation{
		id: id, cfg: p.cfg, version: p.version, checker: m.system.checker(p.cfg.Health),
		by: st.Rollout.By, why: st.Rollout.Why, rollout: st.Rollout.ID, vetted: true,
	}
	m.generations[id] = g
	return g
}

// followTraffic takes the configuration of the generation that has the traffic
// into force, a new one's or on a rollback the one it had, and remembers who
// brought it.
func (m *Master) followTraffic(st rollout.Status) {
	g := m.generations[st.Active]
	if g == nil || m.inForce == g.id {
		return
	}
	m.inForce = g.id
	m.endUnknown()
	if m.active.generation != g.id {
		m.active = deployment{generation: g.id, since: time.Now(), by: g.by, why: g.why}
	}
	m.log.Info("the traffic has moved", zap.Uint64("generation", uint64(g.id)), zap.String("version", g.version.Label))
	if g.cfg != m.cfg {
		m.setEnvironment(g.cfg.Environment)
		m.cfg, m.degraded, m.refused = g.cfg, "", nil
		m.setWatch()
		m.settle()
	}
	m.remember()
	m.tidy()
}

// tidy forgets generations and plans that the machine has forgotten, and
// closes listeners that nothing needs any more.
func (m *Master) tidy() {
	st := m.machine.Status()
	known := map[rollout.Generation]bool{}
	for _, g := range st.Generations {
		known[g.ID] = true
	}
	for id, g := range m.generations {
		if !known[id] {
			delete(m.generations, id)
			m.dropBlobsOf(g)
		}
	}
	for id, p := range m.plans {
		if st.Rollout == nil || st.Rollout.ID != id {
			p.cancel()
			delete(m.plans, id)
		}
	}
	var needed []config.Listener
	need := func(c *config.Config) { needed = append(needed, c.Listeners...) }
	need(m.cfg)
	for _, g := range m.generations {
		need(g.cfg)
	}
	for _, p := range m.plans {
		need(p.cfg)
	}
	m.sockets.Retain(needed)
}
