package main

import "github.com/spf13/cobra"

func (a *app) runCommand() *cobra.Command {
	var strict bool
	var o drafting
	cmd := &cobra.Command{
		Use:     "run [flags] [-- COMMAND ...]",
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

With COMMAND it needs no configuration file: for a first look it runs the program
on the defaults, as masterd init would configure it, and prints by which name other
verbs find it. Where the program does not say where it listens that is
127.0.0.1:8080, or what --listen says; on a terminal you are asked whether the
program may be started once to find out. Nothing of it stays when it has stopped.

As the first process of a container it starts the master as its child, passes
signals on to it, reaps whoever has lost his parent, and starts the master again
if it was killed. It needs a runtime_dir and a state_dir that can be written to.`,
		Args: afterDash,
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case len(args) > 0:
				return a.firstLook(cmd.Context(), args, o, strict)
			case o.listen != "":
				return exitf(exitUsage, "--listen is for a command after --; a configuration has its listeners")
			}
			return a.run(cmd.Context(), strict)
		},
	}
	listenFlag(cmd, &o.listen)
	strictFlag(cmd, &strict)
	return cmd
}

func strictFlag(cmd *cobra.Command, strict *bool) {
	cmd.Flags().BoolVar(strict, "strict", false, "refuse to start with a wrong configuration, instead of running the last good one")
}
