package main

import (
	"context"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/masterd/masterd/pkg/master/check"
	"github.com/masterd/masterd/pkg/master/config"
	"github.com/masterd/masterd/pkg/master/state"
)

func (a *app) checkCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "check",
		GroupID: groupDaemon,
		Short:   "Check the configuration, and what can be tried of it",
		Long: `Read the configuration, and try what can be tried without disturbing a running
master: ports, directories, whether the worker's user can run the program,
steering, whether the calls of a program that binds by itself can be answered,
whether workers can have their limits. Warnings are of workers that run as root,
of programs and files that others than root and the master's user could
exchange, of a program that is not what worker.kind says, and of variables in
values, which are not expanded. The first line says whether the configuration
is good; what is wrong follows, then the rest, then what the configuration
comes to with all defaults.`,
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
	f := a.try(cmd.Context(), cfg)
	fmt.Fprintf(a.err, "masterd: %s\n", f.verdict(file, cfg))
	for _, line := range slices.Concat(f.wrong, f.notes) {
		fmt.Fprintf(a.err, "masterd: %s\n", cleanLines(line))
	}
	if _, err := fmt.Fprint(a.out, config.Effective(cfg)); err != nil {
		return exitf(exitFailed, "writing the configuration: %v", err)
	}
	if len(f.wrong) > 0 {
		return &exit{code: exitUsage}
	}
	return nil
}

// try tries what can be tried of a configuration.
func (a *app) try(ctx context.Context, cfg *config.Config) *findings {
	f := &findings{}
	for _, w := range slices.Concat(cfg.Warnings(), check.Kind(cfg), check.Trust(cfg)) {
		f.note("warning: %s", w)
	}
	for _, n := range check.Parked(cfg) {
		f.note("%s", n)
	}
	for _, one := range config.Try(cfg) {
		if one.Warning {
			f.note("%s", one)
		} else {
			f.bad("%s", one)
		}
	}
	if err := check.Store(cfg); err != nil {
		f.bad("state_dir: %v", err)
	}
	a.tryWorkers(ctx, cfg, f)
	if err := state.TryDirs(cfg.RuntimeDir, cfg.StateDir); err != nil {
		f.bad("%v", err)
	}
	a.tryListeners(ctx, cfg, f)
	return f
}

// findings are what a check has found, a line each.
type findings struct {
	wrong []string // keeps the service from starting, or from being reloaded
	notes []string // all else
}

func (f *findings) bad(format string, args ...any) {
	f.wrong = append(f.wrong, fmt.Sprintf(format, args...))
}

func (f *findings) note(format string, args ...any) {
	f.notes = append(f.notes, fmt.Sprintf(format, args...))
}

// verdict is the line that is read first, and often alone.
func (f *findings) verdict(file string, cfg *config.Config) string {
	switch n := len(f.wrong); {
	case n == 1:
		return fmt.Sprintf("%s: %s would not start: one thing is wrong", clean(file), cfg.Service)
	case n > 1:
		return fmt.Sprintf("%s: %s would not start: %d things are wrong", clean(file), cfg.Service, n)
	case len(cfg.Listeners) == 0:
		return clean(file) + " is good; it has no listeners, as consumers and jobs have none: no client could connect"
	}
	return clean(file) + " is good"
}
