package main

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	"github.com/masterd/masterd/pkg/api"
)

func (a *app) promoteCommand() *cobra.Command {
	var r api.PromoteRequest
	cmd := &cobra.Command{
		Use:     "promote",
		GroupID: groupRollout,
		Short:   "Go on now: the next step of a canary, or the end of a bake, as passed",
		Long: `Take the next step of a canary now, or with --all give the new version all new
connections; it bakes then. In a bake, end it, as passed. After "masterd reload
--confirm", give the confirmation that it waits for.`,
		Args: arguments(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.follow(cmd, 0, func(ctx context.Context, c *api.Client, stage func(api.Stage)) (api.Outcome, error) {
				return c.Promote(ctx, r, stage)
			})
		},
	}
	cmd.Flags().BoolVar(&r.All, "all", false, "all steps of a canary that are left")
	reasonFlag(cmd, &r.Reason)
	return a.talking(cmd)
}

func (a *app) pauseCommand() *cobra.Command {
	return a.because("pause [REASON]", "Stop the clock of a canary's steps",
		`Stop the clock of a canary's steps: the new version keeps the part of the new
connections that it has, until "masterd resume" or "masterd promote". A fault
takes it back all the same. REASON is for whoever looks next.`, (*api.Client).Pause)
}

func (a *app) resumeCommand() *cobra.Command {
	return a.because("resume [REASON]", "Have the clock of a canary's steps go on",
		`Have the clock of a canary's steps go on, after "masterd pause". The step that it
is at begins anew.`, (*api.Client).Resume)
}

// because is a verb whose arguments are its reason.
func (a *app) because(use, short, long string,
	request func(*api.Client, context.Context, api.ReasonRequest, func(api.Stage)) (api.Outcome, error)) *cobra.Command {
	cmd := &cobra.Command{
		Use: use, GroupID: groupRollout, Short: short, Long: long,
		Args: arguments(0, -1),
		RunE: func(cmd *cobra.Command, args []string) error {
			r := api.ReasonRequest{Reason: strings.Join(args, " ")}
			return a.follow(cmd, 0, func(ctx context.Context, c *api.Client, stage func(api.Stage)) (api.Outcome, error) {
				return request(c, ctx, r, stage)
			})
		},
	}
	return a.talking(cmd)
}
