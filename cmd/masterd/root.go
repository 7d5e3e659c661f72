package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Groups of verbs in the help.
const (
	groupDaemon  = "daemon"
	groupRollout = "rollout"
	groupLook    = "look"
	groupOther   = "other"
)

// helpColumns is how wide the help is.
const helpColumns = 80

// root is the whole tree of verbs.
func (a *app) root() *cobra.Command {
	var check, version bool
	var strict bool
	var signal string
	root := &cobra.Command{
		Use:   "masterd",
		Short: "Run a service and roll it over without losing a request",
		Long: `masterd owns a service's listening sockets and runs its workers. A new version
is started beside the old one, checked, and only then given traffic; the old one
stays warm for a while, then drains and leaves.

Without a verb it is the daemon, in the foreground. All other verbs talk to a
running one.`,
		Args:                       a.knownVerb,
		SuggestionsMinimumDistance: 2,
		SilenceErrors:              true,
		SilenceUsage:               true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case version:
				return a.printVersion()
			case check:
				return a.check(cmd)
			case signal != "":
				return a.signal(cmd.Context(), signal)
			case a.service != "":
				return exitf(exitUsage, "--service names a running service, for a verb or for -s; without them masterd is the daemon")
			}
			return a.run(cmd.Context(), strict)
		},
	}
	root.SetOut(a.out)
	root.SetErr(a.err)
	root.SetFlagErrorFunc(wrongFlag)
	// Flags are told as wide as the rest.
	root.SetUsageTemplate(strings.ReplaceAll(root.UsageTemplate(), ".FlagUsages", ".FlagUsagesWrapped "+strconv.Itoa(helpColumns)))
	root.CompletionOptions.DisableDefaultCmd = true
	root.SetHelpCommandGroupID(groupOther)
	root.PersistentFlags().StringVar(&a.config, "config", "", "read the configuration from `FILE` (default $MASTERD_CONFIG, then "+a.defaultFile+")")
	root.MarkPersistentFlagFilename("config", "yaml", "yml")
	root.Flags().BoolVarP(&check, "test", "t", false, "check the configuration and exit, as the verb check")
	root.Flags().BoolVar(&version, "version", false, "print masterd's own version and exit, as the verb version")
	root.Flags().StringVarP(&signal, "signal", "s", "", "as nginx: have the running master `WHAT`: reload, stop, quit or reopen (its log files)")
	root.RegisterFlagCompletionFunc("signal", cobra.FixedCompletions([]string{"reload", "stop", "quit", "reopen"}, cobra.ShellCompDirectiveNoFileComp))
	a.talking(root)
	strictFlag(root, &strict)
	root.AddGroup(
		&cobra.Group{ID: groupDaemon, Title: "The daemon:"},
		&cobra.Group{ID: groupRollout, Title: "Versions come and go:"},
		&cobra.Group{ID: groupLook, Title: "To look:"},
		&cobra.Group{ID: groupOther, Title: "Others:"},
	)
	root.AddCommand(
		a.runCommand(), a.initCommand(), a.checkCommand(), a.stopCommand(), a.scaleCommand(), a.upgradeCommand(), a.proveCommand(),
		a.reloadCommand(), a.rollbackCommand(), a.promoteCommand(), a.pauseCommand(), a.resumeCommand(), a.abortCommand(), a.holdCommand(), a.unholdCommand(), a.versionsCommand(),
		a.statusCommand(), a.listCommand(), a.historyCommand(), a.eventsCommand(), a.logsCommand(), a.pageCommand(),
		a.versionCommand(), a.completionCommand(), a.manCommand(), a.sweepCommand(), a.importCommand(),
	)
	return root
}

// execute runs the command line and returns the exit code.
func (a *app) execute(ctx context.Context, args []string) int {
	root := a.root()
	root.SetArgs(args)
	cmd, err := root.ExecuteContextC(ctx)
	return a.report(cmd, err)
}

// talking gives a verb that talks to a master the flag that names it.
func (a *app) talking(cmd *cobra.Command) *cobra.Command {
	cmd.Flags().StringVar(&a.service, "service", "", "talk to the running service `NAME`")
	cmd.RegisterFlagCompletionFunc("service", a.completeServices)
	return cmd
}

func reasonFlag(cmd *cobra.Command, reason *string) {
	cmd.Flags().StringVar(reason, "reason", "", "say `WHY`, for the history and the next operator")
}

// knownVerb: an argument that is no verb is probably nearly one.
func (a *app) knownVerb(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	if said := otherwise[args[0]]; said != "" && !cmd.HasParent() {
		return exitf(exitUsage, "there is no verb %q: %s", args[0], said)
	}
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		return fmt.Errorf("there is no verb %q; did you mean %s?", args[0], strings.Join(near, " or "))
	}
	return fmt.Errorf("there is no verb %q", args[0])
}

// wrongFlag says what a flag takes, in this program's words and not in the
// parser's.
func wrongFlag(_ *cobra.Command, err error) error {
	var wrong *pflag.InvalidValueError
	if !errors.As(err, &wrong) {
		return err
	}
	f := wrong.GetFlag()
	name := "--" + f.Name
	if f.Shorthand != "" {
		name = "-" + f.Shorthand
	}
	takes := ""
	switch f.Value.Type() {
	case "duration":
		takes = "a number with its unit, such as 90s or 10m"
	case "int", "uint64":
		takes = "a whole number"
	case "bool":
		takes = "no value"
	default:
		return err
	}
	return fmt.Errorf("%s is %q; it takes %s", name, wrong.GetValue(), takes)
}

// arguments checks how many there are; most below zero: no limit.
func arguments(least, most int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case most == 0 && len(args) > 0:
			return fmt.Errorf("%s takes no arguments, not %q", cmd.CommandPath(), args[0])
		case len(args) < least, most >= 0 && len(args) > most:
			return fmt.Errorf("the usage is: %s", cmd.UseLine())
		}
		return nil
	}
}
