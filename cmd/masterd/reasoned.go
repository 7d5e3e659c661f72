package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/masterd/masterd/pkg/api"
)

// reasoned is a verb that asks for one thing and may say why.
func (a *app) reasoned(name, short, long string, request func(*api.Client, context.Context, api.ReasonRequest, func(api.Stage)) (api.Outcome, error)) *cobra.Command {
	var r api.ReasonRequest
	cmd := &cobra.Command{
		Use: name, GroupID: groupRollout, Short: short, Long: long,
		Args: arguments(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.follow(cmd, 0, func(ctx context.Context, c *api.Client, stage func(api.Stage)) (api.Outcome, error) {
				return request(c, ctx, r, stage)
			})
		},
	}
	reasonFlag(cmd, &r.Reason)
	return a.talking(cmd)
}

func (a *app) abortCommand() *cobra.Command {
	return a.reasoned("abort", "End the running rollout",
		`End the running rollout: a candidate is killed, and traffic that was moved goes
back to the version before. While none is running, an automatic reload that waits
is given up.`, (*api.Client).Abort)
}

func (a *app) unholdCommand() *cobra.Command {
	return a.reasoned("unhold", "End a hold", `End a hold: reloads are accepted again.`, (*api.Client).Unhold)
}
