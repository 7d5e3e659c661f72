package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/pkg/master"
	"github.com/masterd/masterd/pkg/master/state"
)

const (
	// restoredEnv tells a masterd that the keeper has started it in the place
	// of another, which died.
	restoredEnv = master.RestoredEnv
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
a minute after it took over is replaced by the one before. Only root and the
master's own user may ask for it.`,
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
					o = awaitSuccessor(ctx, c, before.Master, o)
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
func awaitSuccessor(ctx context.Context, c *api.Client, before api.Master, o api.Outcome) api.Outcome {
	limit := time.Now().Add(upgradeTimeout)
	var since time.Time
	for time.Now().Before(limit) && ctx.Err() == nil {
		switch st, err := c.Status(ctx); {
		case err != nil || st.Master.Since.Equal(before.Since):
		case st.Master.Restored != "":
			o.Result, o.Reason = api.ResultFailed, fmt.Sprintf("%s died after it had taken over; masterd %s is back, as process %d", st.Master.Restored, st.Master.Version, st.Master.PID)
			return o
		case st.Master.PID != before.PID: // an upgrade keeps it
			o.Result, o.Reason = api.ResultFailed, fmt.Sprintf("the one that took over has died; masterd %s runs, as process %d", st.Master.Version, st.Master.PID)
			return o
		case since.IsZero():
			since = time.Now()
		case time.Since(since) >= upgradeSettled:
			o.Reason = fmt.Sprintf("masterd %s answers, as process %d", st.Master.Version, st.Master.PID)
			return o
		}
		time.Sleep(upgradePoll)
	}
	o.Result, o.Reason = api.ResultFailed, "no masterd has answered since; `masterd status` and the log tell more"
	return o
}

// succeed takes over from a master that the keeper has started: the service
// manager supervises well only what it has started itself.
func (a *app) succeed(ctx context.Context, held *state.HeldError, o daemonOptions) (daemon, error) {
	c := api.NewClient(filepath.Join(filepath.Dir(held.File), master.AdminSocket), "")
	for end := time.Now().Add(upgradeTimeout); ; time.Sleep(upgradePoll) {
		if st, err := c.Status(ctx); err == nil && st.Master.Restored != "" {
			o.Restored = st.Master.Restored
			_, _ = c.Upgrade(ctx, api.UpgradeRequest{MakeWay: true, Reason: "the service manager has started one in its place"}, nil) // or the next time
		}
		d, err := a.start(o)
		if !errors.As(err, &held) || time.Now().After(end) {
			return d, err
		}
	}
}

// proveCommand is what a running masterd starts a new binary with.
func (a *app) proveCommand() *cobra.Command {
	return &cobra.Command{
		Use:    master.ProofVerb,
		Hidden: true,
		Args:   arguments(0, 0),
		RunE: func(*cobra.Command, []string) error {
			file, _ := a.configFile()
			env := environWithout(a.environ(), managerVariables()...)
			cfg, _, err := usableConfig(newLastGood(file, env), file, env, false)
			if err == nil {
				err = master.Prove(cfg, parser(file, env))
			}
			if err != nil {
				return &exit{exitFailed, err.Error()}
			}
			fmt.Fprintln(a.out, master.Proof+buildInfo().short())
			return nil
		},
	}
}

// self is how this process was started. The file may be replaced while it runs:
// that is what an upgrade takes. Sockets that were given are the keeper's by then.
func (a *app) self() master.Self {
	program, err := os.Executable()
	if err != nil {
		return master.Self{}
	}
	return master.Self{Program: strings.TrimSuffix(program, " (deleted)"), Args: os.Args, Env: environWithout(os.Environ(), restoredEnv, "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "LISTEN_PIDFDID")}
}

// becomes makes this process another program; should the kernel refuse that, it
// is this one again, from its beginning. A signal must not end it before the
// next one listens for them: until then they are ignored, which an exec keeps.
func becomes(program string, self master.Self) error {
	signal.Ignore(caught...)
	err := syscall.Exec(program, self.Args, self.Env)
	env := append(self.Env, restoredEnv+"="+program)
	return errors.Join(err, syscall.Exec("/proc/self/exe", self.Args, env))
}
