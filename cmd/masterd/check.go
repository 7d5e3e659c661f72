package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/pkg/master"
	"github.com/masterd/masterd/pkg/master/config"
	"github.com/masterd/masterd/pkg/master/state"
)

func (a *app) checkCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "check",
		GroupID: groupDaemon,
		Short:   "Check the configuration, and what can be tried of it",
		Long: `Read the configuration, print what it comes to with all defaults, and try what
can be tried without disturbing a running master: ports, directories, whether
the worker's user can run the program, steering, whether the calls of a program
that binds by itself can be answered. Warnings are of workers that run as root,
and of programs and files that others than root and the master's user could
exchange.`,
		Args: arguments(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error { return a.check(cmd) },
	}
}

func (a *app) check(cmd *cobra.Command) error {
	file, _ := a.configFile()
	if file == "" {
		return exitf(exitUsage, "no configuration: neither --config nor MASTERD_CONFIG names one, and there is no %s", a.defaultFile)
	}
	cfg, err := config.Load(file, a.environ())
	if err != nil {
		return &exit{exitUsage, err.Error()}
	}
	if _, err := fmt.Fprint(a.out, config.Effective(cfg)); err != nil {
		return exitf(exitFailed, "writing the configuration: %v", err)
	}
	for _, w := range cfg.Warnings() {
		fmt.Fprintf(a.err, "masterd: warning: %s\n", cleanLines(w))
	}
	for _, w := range master.CheckTrust(cfg) {
		fmt.Fprintf(a.err, "masterd: warning: %s\n", cleanLines(w))
	}
	wrong := 0
	for _, f := range config.Try(cfg) {
		fmt.Fprintf(a.err, "masterd: %s\n", cleanLines(f.String()))
		if !f.Warning {
			wrong++
		}
	}
	if err := master.CheckStore(cfg); err != nil {
		fmt.Fprintf(a.err, "masterd: state_dir: %s\n", cleanLines(err.Error()))
		wrong++
	}
	if err := master.CheckCalls(cfg, nil); err != nil {
		fmt.Fprintf(a.err, "masterd: %s\n", cleanLines(err.Error()))
		wrong++
	}
	if err := state.TryDirs(cfg.RuntimeDir, cfg.StateDir); err != nil {
		fmt.Fprintf(a.err, "masterd: %s\n", cleanLines(err.Error()))
		wrong++
	}
	wrong += a.tryListeners(cmd.Context(), cfg)
	if wrong > 0 {
		return exitf(exitUsage, "%s: %s would not start", clean(file), cfg.Service)
	}
	fmt.Fprintf(a.err, "masterd: %s is good\n", clean(file))
	return nil
}

// tryListeners opens what the service would listen on, unless it runs, and says
// how each listener would steer.
func (a *app) tryListeners(ctx context.Context, cfg *config.Config) (wrong int) {
	client := a.client(cfg.RuntimeDir, a.owners(cfg.File))
	if client.Alive(ctx) == nil {
		return a.tryNewListeners(ctx, client, cfg)
	}
	listeners, err := master.CheckListeners(cfg)
	if err != nil {
		fmt.Fprintf(a.err, "masterd: %s\n", cleanLines(err.Error()))
		return 1
	}
	for _, l := range listeners {
		how := l.Steering
		if l.Reason != "" {
			how += ": " + l.Reason
		}
		fmt.Fprintf(a.err, "masterd: listener %s on %s is free, steering %s\n", l.Name, l.Address, clean(how))
	}
	return 0
}

// tryNewListeners tries what a reload of the running service would open.
func (a *app) tryNewListeners(ctx context.Context, client *api.Client, cfg *config.Config) (wrong int) {
	running, err := client.Status(ctx)
	if err != nil {
		fmt.Fprintf(a.err, "masterd: %s runs and cannot be asked what it listens on: its listeners were not tried: %s\n", cfg.Service, cleanLines(err.Error()))
		return 0
	}
	if err := master.CheckNewListeners(cfg, running); err != nil {
		fmt.Fprintf(a.err, "masterd: a reload would be refused: %s\n", cleanLines(err.Error()))
		return 1
	}
	fmt.Fprintf(a.err, "masterd: %s runs: listeners that it does not have yet were tried\n", cfg.Service)
	return 0
}
