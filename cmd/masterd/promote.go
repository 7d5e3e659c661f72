package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/masterd/masterd/pkg/api"
)

func (a *app) promoteCommand() *cobra.Command {
	var r api.ReasonRequest
	cmd := &cobra.Command{
		Use:     "promote",
		GroupID: groupRollout,
		Short:   "End the bake or the confirmation now, as passed",
		Long: `End the bake of the active version now, as passed, or give the confirmation that
"masterd reload --confirm" waits for.`,
		Args: arguments(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.follow(cmd, 0, func(ctx context.Context, c *api.Client, stage func(api.Stage)) (api.Outcome, error) {
				return c.Promote(ctx, r, stage)
			})
		},
	}
	reasonFlag(cmd, &r.Reason)
	return a.talking(cmd)
}
