package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/masterd/masterd/pkg/api"
)

func (a *app) logsCommand() *cobra.Command {
	var worker uint64
	var n int
	var follow bool
	cmd := &cobra.Command{
		Use:     "logs",
		GroupID: groupLook,
		Short:   "Show what workers have printed",
		Long: `Show the last lines of what workers have printed to standard output and standard
error, each with its time, generation and worker. "err" marks standard error,
"***" a note of masterd's own.`,
		Args: arguments(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if n < 0 || n > api.MaxLogLines {
				return exitf(exitUsage, "-n is %d; it can be from 0 to %d", n, api.MaxLogLines)
			}
			ctx, stop := a.interrupt(cmd.Context())
			defer stop()
			c, err := a.connect(ctx)
			if err != nil {
				return asExit(err, exitFailed)
			}
			var broken error
			some := false
			err = c.Logs(ctx, worker, n, follow, func(l api.LogLine) error {
				some = true
				_, broken = fmt.Fprintln(a.out, a.logLine(l))
				return broken
			})
			switch {
			case broken != nil:
				return exitf(exitFailed, "writing the output: %v", broken)
			case err != nil && ctx.Err() != nil && cmd.Context().Err() == nil:
				return nil // interrupted: that is how following ends
			case err == nil && follow:
				return exitf(exitFailed, "the master ended")
			case err == nil && !some && n > 0 && worker > 0:
				fmt.Fprintf(a.err, "masterd: nothing that worker %d has printed is kept\n", worker)
				return nil
			case err == nil && !some && n > 0:
				fmt.Fprintln(a.err, "masterd: the workers have printed nothing yet")
				return nil
			case err == nil:
				return nil
			}
			if f := (*api.Fault)(nil); errors.As(err, &f) && f.Kind == api.Expired {
				return nil
			}
			return asExit(err, exitFailed)
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&follow, "follow", "f", false, "go on with new lines, until interrupted")
	f.IntVarP(&n, "lines", "n", api.DefaultLogLines, "show this number of `LINES` of what was printed before")
	f.Uint64Var(&worker, "worker", 0, "show only the worker with this `ID`")
	cmd.RegisterFlagCompletionFunc("worker", a.completeWorkers)
	return a.talking(cmd)
}

// logLine is one line of output, harmless to a terminal.
func (a *app) logLine(l api.LogLine) string {
	mark := "   "
	switch l.Stream {
	case "stderr":
		mark = "err"
	case "masterd":
		mark = "***"
	}
	head := fmt.Sprintf("%s %s %s ", l.At.In(a.now().Location()).Format("01-02 15:04:05.000"), pad(fmt.Sprintf("g%d/w%d", l.Generation, l.Worker), 9), mark)
	return paint(a.colour(), dim, head) + strings.TrimRight(cleanOutput(l.Text), " ")
}
