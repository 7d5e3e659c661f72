package main

import (
	"context"
	"errors"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/masterd/masterd/pkg/api"
)

func (a *app) stopCommand() *cobra.Command {
	var r api.StopRequest
	var announce time.Duration
	cmd := &cobra.Command{
		Use:     "stop",
		GroupID: groupDaemon,
		Short:   "Drain everything and end the master",
		Long: `Stop accepting, finish what is open within stop_timeout, and end the master.
--now ends it at once, --patient waits for as long as the last client takes.

--announce, or stop_announce in the configuration, says so before: for that time
workers serve on in full and answer readiness checks with 503, so that load
balancers in front look away. Another stop ends the announcement.

A service whose environment is "production" is stopped only if its name is said:
--confirm NAME. Under systemd, "systemctl stop" is the better way: a service
that ends by itself may be started again.`,
		Args: arguments(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch given := cmd.Flags().Changed("announce"); {
			case r.Now && r.Patient:
				return exitf(exitUsage, "--now and --patient exclude each other")
			case r.Now && given:
				return exitf(exitUsage, "--now and --announce exclude each other")
			case announce < 0:
				return exitf(exitUsage, "--announce is %s; it cannot be negative", announce)
			case given:
				r.Announce = (*api.Duration)(&announce)
			}
			return a.follow(cmd, 0, func(ctx context.Context, c *api.Client, stage func(api.Stage)) (api.Outcome, error) {
				st, _ := c.Status(ctx)
				o, err := c.Stop(ctx, r, stage)
				if err == nil && o.Result == api.ResultDone {
					awaitEnd(ctx, st.Master.PID)
				}
				return o, err
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&r.Confirm, "confirm", "", "say the `NAME` of the service, wanted in production")
	f.BoolVar(&r.Now, "now", false, "do not wait for anything")
	f.BoolVar(&r.Patient, "patient", false, "wait without a deadline")
	f.DurationVar(&announce, "announce", 0, "say so for this `TIME` first (default: as configured)")
	reasonFlag(cmd, &r.Reason)
	return a.talking(cmd)
}

// endTimeout bounds the wait for a master that has said that it has stopped.
const endTimeout = 2 * time.Second

// awaitEnd waits until the master's process is gone: it answers just before it
// ends, and whoever starts the next one after "masterd stop" would find the
// lock still held.
func awaitEnd(ctx context.Context, pid int) {
	if pid <= 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, endTimeout)
	defer cancel()
	for !errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
		select {
		case <-ctx.Done():
			return
		case <-time.After(5 * time.Millisecond):
		}
	}
}
