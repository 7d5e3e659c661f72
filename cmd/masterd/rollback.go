package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/masterd/masterd/pkg/api"
)

func (a *app) rollbackCommand() *cobra.Command {
	var r api.RollbackRequest
	cmd := &cobra.Command{
		Use:     "rollback [VERSION]",
		GroupID: groupRollout,
		Short:   "Go back to the version before, or to a kept one",
		Long: `Go back to the version before, at any stage of a rollout. While that one is
still parked the traffic moves at once; a kept version that no longer runs is
started and checked first, with the settings that it was run with. VERSION is an id, a label, or the beginning of a
digest, as "masterd versions" shows them.`,
		Args:              arguments(0, 1),
		ValidArgsFunction: a.completeVersions(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				r.Version = args[0]
			}
			return a.follow(cmd, 0, func(ctx context.Context, c *api.Client, stage func(api.Stage)) (api.Outcome, error) {
				return c.Rollback(ctx, r, stage)
			})
		},
	}
	reasonFlag(cmd, &r.Reason)
	return a.talking(cmd)
}
