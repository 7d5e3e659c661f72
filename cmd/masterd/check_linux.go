package main

import (
	"context"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/pkg/master/config"
	"github.com/masterd/masterd/pkg/master/operator"
	"github.com/masterd/masterd/pkg/master/workers"
)

// tryWorkers tries what workers are to have that not every host can give, each with a
// process that ends at once.
func (a *app) tryWorkers(ctx context.Context, cfg *config.Config, f *findings) {
	if err := operator.CheckCalls(cfg, nil); err != nil {
		f.bad("%v", err)
	}
	if err := operator.CheckLimits(ctx, cfg, nil); err != nil {
		f.bad("%v", err)
	}
	if err := workers.TryClients(cfg); err != nil {
		f.note("warning: %v", err)
	}
}

// tryListeners opens what the service would listen on, unless it runs, and says
// how each listener would steer.
func (a *app) tryListeners(ctx context.Context, cfg *config.Config, f *findings) {
	client := a.client(cfg.RuntimeDir, a.owners(cfg.File))
	if client.Alive(ctx) == nil {
		a.tryNewListeners(ctx, client, cfg, f)
		return
	}
	listeners, err := operator.CheckListeners(cfg)
	if err != nil {
		f.bad("%v", err)
		return
	}
	for _, l := range listeners {
		how := l.Steering
		if l.Reason != "" {
			how += ": " + l.Reason
		}
		f.note("listener %s on %s is free, steering %s", l.Name, l.Address, clean(how))
		if l.Steering == "shared" && len(cfg.Rollout.Canary.Steps) > 0 {
			f.bad("rollout.canary.steps: new connections on listener %s cannot be split here; take the steps out", l.Name)
		}
	}
}

// tryNewListeners tries what a reload of the running service would open.
func (a *app) tryNewListeners(ctx context.Context, client *api.Client, cfg *config.Config, f *findings) {
	running, err := client.Status(ctx)
	if err != nil {
		f.note("%s runs and cannot be asked what it listens on: its listeners were not tried: %v", cfg.Service, err)
		return
	}
	if err := operator.CheckNewListeners(cfg, running); err != nil {
		f.bad("a reload would be refused: %v", err)
		return
	}
	f.note("%s runs: listeners that it does not have yet were tried", cfg.Service)
}
