package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/masterd/masterd/pkg/api"
)

func (a *app) abortCommand() *cobra.Command {
	var r api.ReasonRequest
	cmd := &cobra.Command{
		Use:     "abort",
		GroupID: groupRollout,
		Short:   "End the running rollout",
		Long: `End the running rollout: a candidate is killed, and traffic that was moved goes
back to the version before.`,
		Args: arguments(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.follow(cmd, 0, func(ctx context.Context, c *api.Client, stage func(api.Stage)) (api.Outcome, error) {
				return c.Abort(ctx, r, stage)
			})
		},
	}
	reasonFlag(cmd, &r.Reason)
	return a.talking(cmd)
}
