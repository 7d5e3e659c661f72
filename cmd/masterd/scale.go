package main

import (
	"context"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/masterd/masterd/pkg/api"
)

func (a *app) scaleCommand() *cobra.Command {
	var r api.ScaleRequest
	cmd := &cobra.Command{
		Use:     "scale N",
		GroupID: groupDaemon,
		Short:   "Run N workers of the active version",
		Long: `Run N workers of the active version, until the next reload, which takes the
number from the configuration again.`,
		Args: arguments(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			n, err := strconv.Atoi(args[0])
			if err != nil || n < 1 {
				return exitf(exitUsage, "%q is not a number of workers; at least 1 is needed, \"masterd stop\" ends the service", args[0])
			}
			if n > api.MaxProcesses {
				return exitf(exitUsage, "%d workers are too many; a service has at most %d", n, api.MaxProcesses)
			}
			r.Processes = n
			return a.follow(cmd, 0, func(ctx context.Context, c *api.Client, stage func(api.Stage)) (api.Outcome, error) {
				return c.Scale(ctx, r, stage)
			})
		},
	}
	reasonFlag(cmd, &r.Reason)
	return a.talking(cmd)
}
