package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/masterd/masterd/pkg/api"
)

func (a *app) eventsCommand() *cobra.Command {
	var since uint64
	var n int
	var follow, asJSON bool
	cmd := &cobra.Command{
		Use:     "events",
		GroupID: groupLook,
		Short:   "Tell what was done or happened, a line each, for scripts",
		Long: `Print the entries of the history, oldest first, one line each. Each has a number,
from the first of all on, which is never given twice: it goes on when the master ends,
is replaced or starts again.

A script that keeps the number of the last line it has dealt with, and goes on with
--since, misses nothing that the master still has in memory: the last 1000 entries at
least. Where some are not there any more a line "gap" stands for them, with the number of
the last of them; they are in the history's files. A gap without a number says that
numbers begin anew, because these files were taken away.

An entry without a number is not in a file, because the disk is full or broken. It comes
again, with one, to who goes on with --since once it is. What repeats itself (a crash
loop) is one line within a minute, when that is over.

With -f it goes on until interrupted. When the master ends it ends with exit code 1 (3: no
master runs): try again with --since.`,
		Args: arguments(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if n < 0 || n > api.MaxHistory {
				return exitf(exitUsage, "-n is %d; it can be from 0 to %d", n, api.MaxHistory)
			}
			var after *uint64
			if cmd.Flags().Changed("since") {
				after = &since
			}
			ctx, stop := a.interrupt(cmd.Context())
			defer stop()
			c, err := a.connect(ctx)
			if err != nil {
				return asExit(err, exitFailed)
			}
			var broken error
			err = c.Events(ctx, after, n, follow, func(e api.Entry) error {
				line, err := a.eventLine(e, asJSON)
				if err == nil {
					_, err = fmt.Fprintln(a.out, line)
				}
				broken = err
				return err
			})
			f := (*api.Fault)(nil)
			switch {
			case broken != nil:
				return exitf(exitFailed, "writing the output: %v", broken)
			case err != nil && ctx.Err() != nil && cmd.Context().Err() == nil:
				return nil // interrupted: that is how following ends
			case err == nil && follow:
				return exitf(exitFailed, "the master ended")
			case errors.As(err, &f) && f.Kind == api.Expired, err == nil:
				return nil
			}
			return asExit(err, exitFailed)
		},
	}
	f := cmd.Flags()
	f.BoolVar(&asJSON, "json", false, "print each as a JSON object, as GET /v1/events answers it")
	f.Uint64Var(&since, "since", 0, "begin after the entry with this `NUMBER`; 0: with all that the master has in memory")
	f.IntVarP(&n, "lines", "n", api.DefaultHistory, "begin with this number of `ENTRIES`")
	f.BoolVarP(&follow, "follow", "f", false, "go on with new ones, until interrupted")
	cmd.MarkFlagsMutuallyExclusive("since", "lines")
	return a.talking(cmd)
}

// eventLine is one entry in one line.
func (a *app) eventLine(e api.Entry, asJSON bool) (string, error) {
	if asJSON {
		b, err := json.Marshal(e)
		return cleanJSON(b), err
	}
	n := "-"
	if e.N != 0 {
		n = strconv.FormatUint(e.N, 10)
	}
	words := []string{pad(n, -5), e.At.In(a.now().Location()).Format(time.DateTime), clean(e.What)}
	if e.Outcome != api.ResultDone {
		words = append(words, clean(e.Outcome)+times(e.Repeats))
	}
	said := func(before, s string) {
		if s != "" {
			words = append(words, before+clean(s))
		}
	}
	said("", e.Version)
	if m := move(e.From, e.To); m != "" {
		said("generation ", m)
	}
	if e.Worker != 0 {
		said("worker ", strconv.FormatUint(e.Worker, 10))
	}
	said("by ", e.By)
	line := strings.Join(words, "  ")
	if e.Why != "" {
		line += "  why: " + clean(e.Why)
	}
	if e.Reason != "" {
		line += "  " + clean(e.Reason)
	}
	return line, nil
}
