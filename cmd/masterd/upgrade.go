package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/pkg/master"
	"github.com/masterd/masterd/pkg/master/keeper"
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

// proveCommand is what a running masterd starts a new binary with: what this one
// reads, and how, is what run would.
func (a *app) proveCommand() *cobra.Command {
	var strict bool
	cmd := &cobra.Command{
		Use:    master.ProofVerb,
		Hidden: true,
		Args:   arguments(0, 0),
		RunE: func(*cobra.Command, []string) error {
			file, _ := a.configFile()
			env := environWithout(a.environ(), managerVariables()...)
			cfg, _, err := usableConfig(newLastGood(file, env), file, env, strict)
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
	strictFlag(cmd, &strict)
	return cmd
}

// self is how this process was started. Sockets that were given are the keeper's
// when another masterd takes its place.
func (a *app) self(file string, strict bool) master.Self {
	program, err := a.startedAs()
	if err != nil {
		return master.Self{}
	}
	flags := []string{"--config", file}
	if strict {
		flags = append(flags, "--strict")
	}
	return master.Self{
		Program: program, Flags: flags,
		Env: environWithout(os.Environ(), restoredEnv, master.StartedAsEnv, "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "LISTEN_PIDFDID"),
	}
}

// startedAs is by which path masterd was started, absolute. Symbolic links stay in
// it: what they lead to when there is an upgrade is what is wanted then. It is found
// out once and carried over each exec, as by then the path may lead elsewhere, and
// the working directory be gone.
func (a *app) startedAs() (string, error) {
	if program := a.env(master.StartedAsEnv); filepath.IsAbs(program) {
		return program, nil
	}
	running, err := os.Executable()
	if err != nil {
		return "", err
	}
	named := os.Args[0]
	if !strings.ContainsRune(named, filepath.Separator) {
		named, err = exec.LookPath(named)
	}
	if err == nil {
		named, err = filepath.Abs(named)
	}
	if err == nil && sameFile(named, running) { // the first argument may be anything
		return named, nil
	}
	return strings.TrimSuffix(running, " (deleted)"), nil
}

func sameFile(x, y string) bool {
	a, err := os.Stat(x)
	if err != nil {
		return false
	}
	b, err := os.Stat(y)
	return err == nil && os.SameFile(a, b)
}

// becomes makes this process another program; should the kernel refuse that, it
// is this one again, from its beginning. A signal must not end it before the
// next one listens for them: until then they are ignored, which an exec keeps.
func becomes(program string, self master.Self, report *os.File) error {
	signal.Ignore(caught...)
	if report != nil { // the next one reports, too
		_, _ = unix.FcntlInt(keeper.ReporterFD, unix.F_SETFD, 0)
	}
	next := self.As(program)
	err := syscall.Exec(program, next.Args(master.RunVerb), next.Environ())
	return errors.Join(err, syscall.Exec("/proc/self/exe", self.Args(master.RunVerb), self.Environ(restoredEnv+"="+program)))
}
