package main

import (
	"time"

	"github.com/spf13/cobra"
)

// sweepGrace is how long what is left has to end by itself after TERM. A
// stop has drained the workers by then.
const sweepGrace = 5 * time.Second

// sweepCommand is for units alone; people stop a service by systemctl stop.
func (a *app) sweepCommand() *cobra.Command {
	var unit string
	var grace time.Duration
	cmd := &cobra.Command{
		Use:   "sweep",
		Short: "End what is left of a unit that does not come back",
		Long: `End what is left of a systemd unit of masterd's, which has KillMode=process, if
the unit is not coming back. As ExecStopPost= it goes by how the master ended: an
exit with 0 or 2 is final, after anything else there will be another master, and
workers and keeper are left alone for it. With --unit it asks systemd whether
that unit is down for good.`,
		Args:   arguments(0, 0),
		Hidden: true,
		RunE: func(*cobra.Command, []string) error {
			if unit != "" {
				return a.sweepUnit(unit, grace)
			}
			return a.sweepAfter(grace)
		},
	}
	cmd.Flags().StringVar(&unit, "unit", "", "sweep after the unit `NAME`, from another one")
	cmd.Flags().DurationVar(&grace, "grace", sweepGrace, "kill what is there this `TIME` after TERM")
	return cmd
}
