package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/masterd/masterd/docs/man"
)

// manCommand prints the manual page.
func (a *app) manCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "man",
		Short:  "Print masterd(8) in roff",
		Args:   arguments(0, 0),
		Hidden: true,
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Fprint(a.out, man.Masterd)
			return err
		},
	}
}
