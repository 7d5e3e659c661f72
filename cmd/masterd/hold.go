package main

import (
	"github.com/spf13/cobra"

	"github.com/masterd/masterd/pkg/api"
)

func (a *app) holdCommand() *cobra.Command {
	cmd := a.because("hold REASON", "Refuse all reloads until unhold",
		`Refuse all reloads, by whomever, until "masterd unhold". Whoever is refused is
told the reason. Rolling back stays possible.`, (*api.Client).Hold)
	cmd.Args = arguments(1, -1)
	return cmd
}
