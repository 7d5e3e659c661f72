package master

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"go.uber.org/zap"

	"github.com/masterd/masterd/pkg/master/config"
	"github.com/masterd/masterd/pkg/master/hook"
	"github.com/masterd/masterd/pkg/master/rollout"
	"github.com/masterd/masterd/pkg/master/version"
)

// prepare pins what a rollout is to run, opens listeners it adds, runs the
// "before" hooks and looks at memory. Nothing of it touches what serves.
func (m *Master) prepare(c rollout.Prepare) {
	for id, p := range m.plans { // one rollout at a time: an older one was superseded
		p.cancel()
		delete(m.plans, id)
	}
	p := m.asked[c.Token]
	delete(m.asked, c.Token)
	if p == nil {
		p = &plan{cfg: m.cfg}
	}
	ctx, cancel := context.WithTimeout(m.life, prepareTimeout)
	p.token, p.cancel = c.Token, cancel
	m.plans[c.Rollout] = p
	m.lastRollout = max(m.lastRollout, c.Rollout)

	leaders := map[uint64]int{} // of workers' groups
	for _, w := range m.workers {
		if w.generation.id == m.machine.Status().Active && w.process != nil {
			leaders[uint64(w.id)] = w.leads()
		}
	}
	trace := m.trace(c.Rollout)
	m.beside(func() {
		// A worker that is started now needs its sockets now.
		m.mendRuntimeDir(func(what string, err error) {
			m.log.Error("something in the runtime directory is gone and cannot be made again", zap.String("what", what), zap.Error(err))
		})
		v, err := m.pin(ctx, p, c.Version)
		if err == nil && c.Version == nil {
			err = config.Refused(p.cfg)
		}
		cfg := p.cfg
		if c.Version != nil {
			cfg = asRunBy(cfg, v)
			if err == nil && len(cfg.Listeners) == 0 && len(p.cfg.Listeners) > 0 {
				err = fmt.Errorf("version %s knows none of the listeners that are configured now, only %s: give them these names again and reload",
					v.Label, strings.Join(v.Listeners, ", "))
			}
		}
		if err == nil {
			err = m.sockets.Add(cfg.Listeners)
		}
		if err == nil {
			err = m.grow(slotsFor(cfg, max(cfg.Worker.Processes, len(leaders)))) // it may have been scaled
		}
		facts := hook.Facts{Service: p.cfg.Service, Rollout: uint64(c.Rollout), Version: v.Label, Digest: v.Digest, TraceID: trace}
		if err == nil {
			err = m.require(ctx, p.cfg.Rollout.Require, facts)
		}
		if err == nil {
			err = m.runHooks(ctx, "before", p.cfg.Rollout.Hooks.Before, facts)
		}
		if err != nil {
			m.at(func() {
				m.step(rollout.PrepareFailed{Rollout: c.Rollout, Reason: err.Error()})
				m.tidy() // listeners that were opened for it
			})
			return
		}
		groups := sync.OnceValue(m.system.groups)
		var processes [][]int
		for worker, leader := range leaders {
			processes = append(processes, m.processesOf(worker, leader, groups))
		}
		mem := m.system.memory(processes)
		m.at(func() {
			p.version, p.cfg = v, cfg
			m.step(rollout.Prepared{Rollout: c.Rollout, Version: ref(v), Memory: mem})
			m.tidy() // it may have been given up meanwhile
		})
	})
}

// pin brings the version into the store, or finds the kept one.
func (m *Master) pin(ctx context.Context, p *plan, kept *rollout.Version) (version.Version, error) {
	if kept != nil {
		v, ok := m.store.Get(kept.ID)
		if !ok {
			return v, fmt.Errorf("version %s (%s) is not in the store any more", kept.Label, kept.ID)
		}
		return v, nil
	}
	return m.store.Pin(ctx, source(p.cfg, p.label))
}

// source is the version that a configuration names.
func source(c *config.Config, label string) version.Source {
	return version.Source{
		Program: c.Worker.Command[0], Args: c.Worker.Command, Env: c.Worker.Env, EnvFiles: c.Worker.EnvFiles,
		Dir: c.Worker.Directory, Label: label, Mode: c.Worker.Pin, Listeners: names(c.Listeners),
	}
}

// asRunBy is the configuration for a kept version: without listeners that came
// after it, which its program does not know.
func asRunBy(c *config.Config, v version.Version) *config.Config {
	if v.Listeners == nil || !slices.ContainsFunc(c.Listeners, func(l config.Listener) bool { return !slices.Contains(v.Listeners, l.Name) }) {
		return c
	}
	then := *c
	then.Listeners = slices.DeleteFunc(slices.Clone(c.Listeners), func(l config.Listener) bool { return !slices.Contains(v.Listeners, l.Name) })
	checked := checkedListener(then.Health)
	if len(then.Listeners) == 0 || checked == "" || slices.Contains(v.Listeners, checked) {
		return &then
	}
	// The check goes to a listener it does not have: to its first, then.
	if h := then.Health.HTTP; h != nil {
		moved := *h
		moved.Listener = then.Listeners[0].Name
		then.Health.HTTP = &moved
	}
	if then.Health.TCP != nil {
		then.Health.TCP = &config.TCPCheck{Listener: then.Listeners[0].Name}
	}
	return &then
}

// names are the listeners' names.
func names(ls []config.Listener) []string {
	out := make([]string, len(ls))
	for i, l := range ls {
		out[i] = l.Name
	}
	return out
}

// ref is all that the machine knows of a version.
func ref(v version.Version) rollout.Version {
	return rollout.Version{ID: v.ID, Digest: v.Digest, Label: v.Label}
}

// settle gives open listeners what the configuration in force says of them: the
// preparation of another may have changed their mode, group or backlog. It may
// look up groups: not in the loop.
func (m *Master) settle() {
	ls := m.cfg.Listeners
	m.beside(func() {
		if err := m.sockets.Settle(ls); err != nil && m.life.Err() == nil {
			m.log.Error("listeners cannot be given back what is configured", zap.Error(err))
		}
	})
}

// setEnvironment tells the admin socket, which asks for a production service's
// name. It may look up groups: not in the loop.
func (m *Master) setEnvironment(environment string) {
	if m.admin == nil || environment == m.cfg.Environment {
		return
	}
	admin := m.cfg.Admin // needs a restart to change
	m.queueDisk("the environment", func() error {
		return m.admin.SetAccess(environment, admin.ReadersGroup, admin.OperatorsGroup)
	})
}

// remember keeps the configuration in force as the last good one: what a start
// falls back to when the file is broken then.
func (m *Master) remember() {
	if cfg := m.cfg; m.opt.Remember != nil {
		m.queueDisk("the last good configuration", func() error { return m.opt.Remember(cfg) })
	}
}

// hook runs the hooks that come after a rollout, beside the loop; how they end
// changes nothing.
func (m *Master) hook(c rollout.Hook) {
	hooks := m.cfg.Rollout.Hooks.After
	if c.Name == "failed" {
		hooks = m.cfg.Rollout.Hooks.Failed
	}
	facts := hook.Facts{
		Service: m.cfg.Service, Rollout: uint64(c.Rollout), Generation: uint64(c.Entry.To), Version: c.Entry.Version.Label,
		Digest: c.Entry.Version.Digest, Outcome: result(c.Entry.Code), Stage: string(c.Entry.Stage), Reason: c.Entry.Reason,
		TraceID: m.trace(c.Rollout),
	}
	m.beside(func() {
		ctx, cancel := context.WithTimeout(m.life, hook.Timeout)
		defer cancel()
		if err := m.runHooks(ctx, c.Name, hooks, facts); err != nil {
			m.log.Warn("a hook failed", zap.Error(err))
		}
	})
}

// runHooks runs argument lists in order; the first that fails ends it.
func (m *Master) runHooks(ctx context.Context, name string, hooks [][]string, f hook.Facts) error {
	f.Hook, f.Environ = name, m.opt.HookEnv
	for i, h := range hooks {
		out, err := hook.Run(ctx, h, f)
		if len(out) > 0 {
			m.log.Info("hook", zap.String("hook", name), zap.Strings("command", h), zap.ByteString("output", out), zap.String("trace_id", f.TraceID))
		}
		if err != nil {
			return fmt.Errorf("the %q hook %d (%s): %w", name, i+1, h[0], err)
		}
	}
	return nil
}
