package main

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	"github.com/masterd/masterd/pkg/api"
)

func (a *app) holdCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "hold REASON",
		GroupID: groupRollout,
		Short:   "Refuse all reloads until unhold",
		Long: `Refuse all reloads, by whomever, until "masterd unhold". Whoever is refused is
told the reason. Rolling back stays possible.`,
		Args: arguments(1, -1),
		RunE: func(cmd *cobra.Command, args []string) error {
			r := api.ReasonRequest{Reason: strings.Join(args, " ")}
			return a.follow(cmd, 0, func(ctx context.Context, c *api.Client, stage func(api.Stage)) (api.Outcome, error) {
				return c.Hold(ctx, r, stage)
			})
		},
	}
	return a.talking(cmd)
}
