package config

import (
	"fmt"
	"strings"
)

// field is one key of one Config: the only place where keys and struct fields
// are brought together. Reading, showing and comparing all go by it.
type field struct {
	path string // concrete: "listeners[1].name"
	key  Key
	ptr  any // *string, *int, *uint64, *bool, *time.Duration, *[]string, *[][]string, *map[string]string or *[]StatusRange; nil: the key has no field
}

// fields are all keys that have a value in c, in the order of the schema. A
// check that is not used has none.
func (s schema) fields(c *Config) []field {
	ptrs := pointers(c)
	var all []field
	for _, k := range s.keys {
		switch {
		case k.Type == Section || k.Type == List || k.Type == Reserved:
		case strings.HasPrefix(k.Path, "health.http.") && c.Health.HTTP == nil:
		case strings.HasPrefix(k.Path, "health.tcp.") && c.Health.TCP == nil:
		case strings.HasPrefix(k.Path, "listeners[]."):
		default:
			all = append(all, field{k.Path, k, ptrs[k.Path]})
		}
		if k.Type == List {
			for i := range c.Listeners {
				all = append(all, s.listenerFields(i, &c.Listeners[i])...)
			}
		}
	}
	return all
}

func (s schema) listenerFields(i int, l *Listener) []field {
	ptrs := map[string]any{"name": &l.Name, "address": &l.Address, "backlog": &l.Backlog, "steering": &l.Steering}
	var all []field
	for _, k := range s.children["listeners"] {
		all = append(all, field{fmt.Sprintf("listeners[%d].%s", i, k.Name()), k, ptrs[k.Name()]})
	}
	return all
}

func pointers(c *Config) map[string]any {
	w, h, r := &c.Worker, &c.Health, &c.Rollout
	m := map[string]any{
		"service": &c.Service, "environment": &c.Environment, "runtime_dir": &c.RuntimeDir, "state_dir": &c.StateDir,

		"worker.kind": &w.Kind, "worker.command": &w.Command, "worker.directory": &w.Directory, "worker.processes": &w.Processes,
		"worker.pin": &w.Pin, "worker.env": &w.Env, "worker.env_files": &w.EnvFiles, "worker.user": &w.User, "worker.group": &w.Group,
		"worker.limits.processes": &w.NProc, "worker.limits.core": &w.Core,
		"worker.no_new_privileges": &w.NoNewPrivs, "worker.capabilities": &w.Capabilities,
		"worker.limits.nofile": &w.NoFile, "worker.stop_signal": &w.StopSignal,
		"worker.preset": &w.Preset, "worker.ready": &w.Ready, "worker.notify_access": &w.NotifyAccess, "worker.watchdog": &w.Watchdog,
		"worker.fd_store": &w.FDStore, "worker.non_blocking": &w.NonBlocking,

		"health.command":        &h.Command,
		"health.start.interval": &h.Start.Interval, "health.start.successes": &h.Start.Successes, "health.start.timeout": &h.Start.Timeout,
		"health.active.interval": &h.Active.Interval, "health.active.timeout": &h.Active.Timeout, "health.active.failures": &h.Active.Failures,
		"health.warmup.path": &h.Warmup.Path, "health.warmup.requests": &h.Warmup.Requests, "health.warmup.concurrency": &h.Warmup.Concurrency,

		"rollout.bake": &r.Bake, "rollout.surge": &r.Surge, "rollout.min_ready": &r.MinReady, "rollout.watch": &r.Watch, "rollout.cooldown": &r.Cooldown,
		"rollout.max_per_minute": &r.MaxPerMinute, "rollout.keep_versions": &r.KeepVersions,
		"rollout.memory.reserve": &r.Memory.Reserve, "rollout.memory.when_short": &r.Memory.WhenShort,
		"rollout.require.commands": &r.Require.Commands, "rollout.require.tcp": &r.Require.TCP, "rollout.require.http": &r.Require.HTTP,
		"rollout.require.timeout": &r.Require.Timeout,
		"rollout.hooks.before":    &r.Hooks.Before, "rollout.hooks.after": &r.Hooks.After, "rollout.hooks.failed": &r.Hooks.Failed,

		"drain.timeout": &c.Drain.Timeout, "drain.max_generations": &c.Drain.MaxGenerations, "drain.handover": &c.Drain.Handover,
		"drain.kill_after": &c.Drain.KillAfter, "drain.signal": &c.Drain.Signal, "drain.command": &c.Drain.Command,
		"restart.initial": &c.Restart.Initial, "restart.max": &c.Restart.Max, "restart.loop": &c.Restart.Loop, "restart.loop_window": &c.Restart.LoopWindow,
		"unavailable.after": &c.Unavailable.After, "unavailable.answer": &c.Unavailable.Answer,
		"stop_timeout":  &c.StopTimeout,
		"stop_announce": &c.Announce,
		"state.blob":    &c.State.Blob, "state.total": &c.State.Total, "state.count": &c.State.Count,
		"versions.allow":      &c.Versions.Allow,
		"admin.readers_group": &c.Admin.ReadersGroup, "admin.operators_group": &c.Admin.OperatorsGroup,
		"log.level": &c.Log.Level, "log.format": &c.Log.Format, "log.file": &c.Log.File, "log.per_worker": &c.Log.PerWorker, "log.line": &c.Log.Line,
	}
	if h.HTTP != nil {
		m["health.http.listener"], m["health.http.scheme"], m["health.http.method"] = &h.HTTP.Listener, &h.HTTP.Scheme, &h.HTTP.Method
		m["health.http.path"], m["health.http.host"] = &h.HTTP.Path, &h.HTTP.Host
		m["health.http.headers"], m["health.http.status"] = &h.HTTP.Headers, &h.HTTP.Status
	}
	if h.TCP != nil {
		m["health.tcp.listener"] = &h.TCP.Listener
	}
	return m
}
