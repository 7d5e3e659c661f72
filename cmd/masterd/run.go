package main

import "github.com/spf13/cobra"

func (a *app) runCommand() *cobra.Command {
	var strict bool
	cmd := &cobra.Command{
		Use:     "run",
		GroupID: groupDaemon,
		Short:   "Run the service, in the foreground",
		Long: `Run the service, in the foreground, until it is told to stop. The same as
masterd without a verb.

If the configuration is wrong at start, the last good one runs, and status says
so; --strict refuses instead.

Signals: HUP reads the configuration and rolls over; USR2 rolls over with the
configuration in force; USR1 reopens log files; QUIT drains and stops without a
deadline; TERM and INT drain and stop within stop_timeout, a second one at once.
With stop_announce a stop is announced first, and a second one ends that.

As the first process of a container it starts the master as its child, passes
signals on to it, reaps whoever has lost his parent, and starts the master again
if it was killed. It needs a runtime_dir and a state_dir that can be written to.`,
		Args: arguments(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error { return a.run(cmd.Context(), strict) },
	}
	strictFlag(cmd, &strict)
	return cmd
}

func strictFlag(cmd *cobra.Command, strict *bool) {
	cmd.Flags().BoolVar(strict, "strict", false, "refuse to start with a wrong configuration, instead of running the last good one")
}
