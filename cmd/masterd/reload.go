package main

import (
	"context"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/masterd/masterd/pkg/api"
)

func (a *app) reloadCommand() *cobra.Command {
	var r api.ReloadRequest
	var timeout, confirm time.Duration
	cmd := &cobra.Command{
		Use:     "reload",
		GroupID: groupRollout,
		Short:   "Read the configuration and roll over to what it names",
		Long: `Read the configuration and roll over to the program that it names, also if
neither has changed. The new version is started beside the old one, checked, and
only then given traffic; whatever goes wrong before that leaves the old one
untouched. With steps of a canary it then gets a part of the new connections
first (rollout.canary.steps; --canary and --skip-canary for this time only).

It shows the stages and waits until the new version serves; --until baked waits
until it has proved itself. A step without a time waits for "masterd promote",
and so does this. Going away changes nothing: the rollout goes on.`,
		Args: arguments(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if r.Until != "serving" && r.Until != "baked" {
				return exitf(exitUsage, "--until is %q; it can be serving or baked", r.Until)
			}
			if timeout < 0 || confirm < 0 {
				return exitf(exitUsage, "--timeout and --confirm cannot be negative")
			}
			if cmd.Flags().Changed("canary") && r.Canary == "" {
				return exitf(exitUsage, "--canary has no steps; write some, or --skip-canary to go without")
			}
			if r.Binary != "" {
				abs, err := filepath.Abs(r.Binary)
				if err != nil {
					return exitf(exitUsage, "--binary %s: %v", r.Binary, err)
				}
				r.Binary = abs
			}
			r.Confirm = api.Duration(confirm)
			return a.follow(cmd, timeout, func(ctx context.Context, c *api.Client, stage func(api.Stage)) (api.Outcome, error) {
				return c.Reload(ctx, r, stage)
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&r.Label, "label", "", "call the new version `NAME` (default: from its build information, else its digest)")
	f.StringVar(&r.Binary, "binary", "", "run this `FILE` instead of the configured program")
	f.StringVar(&r.Until, "until", "serving", "`WHAT` to wait for: serving or baked")
	f.BoolVar(&r.Detach, "detach", false, "return as soon as it was accepted")
	f.DurationVar(&timeout, "timeout", 0, "wait at most this `TIME`; the rollout itself goes on (default: no limit)")
	f.DurationVar(&confirm, "confirm", 0, "roll back unless \"masterd promote\" comes within this `TIME`")
	f.BoolVar(&r.Replace, "replace", false, "take the place of a rollout that has already moved traffic")
	f.StringVar(&r.Canary, "canary", "", "go by these `STEPS` and not those configured, as in 5%:1m,25%: 5% of new connections for 1m, then 25% until \"masterd promote\"")
	f.BoolVar(&r.SkipCanary, "skip-canary", false, "go without steps, in an emergency: all new connections at once")
	cmd.MarkFlagsMutuallyExclusive("canary", "skip-canary")
	cmd.RegisterFlagCompletionFunc("canary", cobra.NoFileCompletions)
	reasonFlag(cmd, &r.Reason)
	cmd.RegisterFlagCompletionFunc("until", cobra.FixedCompletions([]string{"serving", "baked"}, cobra.ShellCompDirectiveNoFileComp))
	return a.talking(cmd)
}
