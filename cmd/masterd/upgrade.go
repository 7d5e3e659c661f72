package main

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/masterd/masterd/pkg/api"
)

const (
	// upgradeTimeout bounds the wait for the new masterd's first answer; the
	// keeper has brought back the old one before.
	upgradeTimeout = 15 * time.Second
	upgradePoll    = 20 * time.Millisecond
	// upgradeSettled is how long the new one has to live to be believed.
	upgradeSettled = 2500 * time.Millisecond
)

func (a *app) upgradeCommand() *cobra.Command {
	var r api.UpgradeRequest
	cmd := &cobra.Command{
		Use:     "upgrade",
		GroupID: groupDaemon,
		Short:   "Replace the running masterd by a new one",
		Long: `Replace the running masterd by the binary that lies where it was started from,
or by another: the same process id, the same workers, no connection touched.

The new binary first proves, in a process of its own, that it can read the
configuration and the state; if it cannot, nothing happens. One that dies within
a minute after it took over is replaced by the one before. Where masterd was started
from is the path that was named then, symbolic links included: what they lead to
now is run, with the same flags, environment and directory. The exit status is 3 if
no master runs afterwards; workers serve on then. Only root and the master's own
user may ask for it.`,
		Args: arguments(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if r.Binary != "" {
				abs, err := filepath.Abs(r.Binary)
				if err != nil {
					return exitf(exitUsage, "--binary: %v", err)
				}
				r.Binary = abs
			}
			return a.follow(cmd, 0, func(ctx context.Context, c *api.Client, stage func(api.Stage)) (api.Outcome, error) {
				before, err := c.Status(ctx)
				if err != nil {
					return api.Outcome{}, err
				}
				begun := a.now()
				o, err := c.Upgrade(ctx, r, stage)
				if err == nil && o.Result == api.ResultDone {
					o, err = awaitSuccessor(ctx, c, before.Master, o)
					o.ElapsedMS = a.now().Sub(begun).Milliseconds()
				}
				return o, err
			})
		},
	}
	cmd.Flags().StringVar(&r.Binary, "binary", "", "the new `FILE` (default: where the running one was started from)")
	cmd.MarkFlagFilename("binary")
	reasonFlag(cmd, &r.Reason)
	return a.talking(cmd)
}

// awaitSuccessor waits until another masterd answers, and for a moment more: one
// that dies at once is no success.
func awaitSuccessor(ctx context.Context, c *api.Client, before api.Master, o api.Outcome) (api.Outcome, error) {
	limit := time.Now().Add(upgradeTimeout)
	var since time.Time
	var silent error
	for time.Now().Before(limit) && ctx.Err() == nil {
		st, err := c.Status(ctx)
		silent = err
		switch {
		case err != nil || st.Master.Since.Equal(before.Since):
		case st.Master.Restored != "":
			o.Result, o.Reason = api.ResultFailed, fmt.Sprintf("%s died after it had taken over; masterd %s is back, as process %d", st.Master.Restored, st.Master.Version, st.Master.PID)
			return o, nil
		case st.Master.PID != before.PID: // an upgrade keeps it
			o.Result, o.Reason = api.ResultFailed, fmt.Sprintf("the one that took over has died; masterd %s runs, as process %d", st.Master.Version, st.Master.PID)
			return o, nil
		case since.IsZero():
			since = time.Now()
		case time.Since(since) >= upgradeSettled:
			o.Reason = fmt.Sprintf("masterd %s answers, as process %d", st.Master.Version, st.Master.PID)
			return o, nil
		}
		time.Sleep(upgradePoll)
	}
	if isNoMaster(silent) {
		return o, exitf(exitNoMaster, "upgrade failed: masterd %s has left for another one, and no master runs since\nThe workers serve on; the log tells why, and \"masterd run\" or the service manager starts one that takes them over.", before.Version)
	}
	return o, exitf(exitUnknown, "masterd %s has left for another one, and it is not known here what came of that: \"masterd status\" and \"masterd history\" tell", before.Version)
}

// proveCommand is what a running masterd starts a new binary with: what this one
// reads, and how, is what run would.
func (a *app) proveCommand() *cobra.Command {
	var strict bool
	cmd := &cobra.Command{
		Use:    "prove", // as [takeover.ProofVerb]
		Hidden: true,
		Args:   arguments(0, 0),
		RunE:   func(*cobra.Command, []string) error { return a.prove(strict) },
	}
	strictFlag(cmd, &strict)
	return cmd
}
