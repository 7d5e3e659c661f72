package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/masterd/masterd/pkg/api"
)

func (a *app) unholdCommand() *cobra.Command {
	var r api.ReasonRequest
	cmd := &cobra.Command{
		Use:     "unhold",
		GroupID: groupRollout,
		Short:   "End a hold",
		Long:    `End a hold: reloads are accepted again.`,
		Args:    arguments(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.follow(cmd, 0, func(ctx context.Context, c *api.Client, stage func(api.Stage)) (api.Outcome, error) {
				return c.Unhold(ctx, r, stage)
			})
		},
	}
	reasonFlag(cmd, &r.Reason)
	return a.talking(cmd)
}
