package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/masterd/masterd/pkg/api"
)

// completeTimeout bounds how long a key press may wait for a master.
const completeTimeout = 500 * time.Millisecond

func (a *app) completionCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "completion bash|zsh|fish",
		GroupID: groupOther,
		Short:   "Print the completion script of a shell",
		Long: `Print the completion script of a shell. To load it:

  bash:  source <(masterd completion bash)
  zsh:   masterd completion zsh > "${fpath[1]}/_masterd"
  fish:  masterd completion fish | source`,
		Args: func(cmd *cobra.Command, args []string) error {
			if err := arguments(1, 1)(cmd, args); err != nil {
				return err
			}
			if !slices.Contains(cmd.ValidArgs, args[0]) {
				return fmt.Errorf("there is no completion for %q; it can be bash, zsh or fish", args[0])
			}
			return nil
		},
		ValidArgs: []string{"bash", "zsh", "fish"},
		RunE: func(cmd *cobra.Command, args []string) error {
			switch args[0] {
			case "bash":
				return cmd.Root().GenBashCompletionV2(a.out, true)
			case "zsh":
				return cmd.Root().GenZshCompletion(a.out)
			}
			return cmd.Root().GenFishCompletion(a.out, true)
		},
	}
}

// completer asks the running master for what could stand there. What goes
// wrong is nobody's business at that moment.
type completer = func(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective)

func (a *app) completing(cmd *cobra.Command, list func(context.Context, *api.Client) []string) ([]string, cobra.ShellCompDirective) {
	ctx := cmd.Context()
	if ctx == nil {
		ctx = context.Background()
	}
	ctx, cancel := context.WithTimeout(ctx, completeTimeout)
	defer cancel()
	c, err := a.connect(ctx)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return list(ctx, c), cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveKeepOrder
}

// completeVersions completes the first n arguments.
func (a *app) completeVersions(n int) completer {
	return func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if len(args) >= n {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return a.completing(cmd, func(ctx context.Context, c *api.Client) (list []string) {
			versions, _ := c.Versions(ctx)
			for _, v := range versions {
				about := shortDigest(v.Digest)
				if v.Use != "" {
					about = v.Use + ", " + about
				}
				ref := v.Label
				if ref == "" {
					ref = v.ID
				}
				list = append(list, cobra.CompletionWithDesc(clean(ref), clean(about)))
			}
			return list
		})
	}
}

func (a *app) completeWorkers(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	return a.completing(cmd, func(ctx context.Context, c *api.Client) (list []string) {
		st, _ := c.Status(ctx)
		for _, g := range st.Generations {
			for _, w := range g.Workers {
				about := fmt.Sprintf("generation %d, %s, %s", g.ID, g.Version.Label, w.Phase)
				list = append(list, cobra.CompletionWithDesc(strconv.FormatUint(w.ID, 10), clean(about)))
			}
		}
		return list
	})
}

func (a *app) completeServices(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	ctx := cmd.Context()
	if ctx == nil {
		ctx = context.Background()
	}
	var list []string
	for _, f := range a.find(ctx) {
		if f.err == nil {
			list = append(list, clean(f.name))
		}
	}
	return list, cobra.ShellCompDirectiveNoFileComp
}
