package main

import (
	"fmt"
	"os/exec"
	"runtime"

	"github.com/spf13/cobra"

	"github.com/masterd/masterd/pkg/api"
)

func (a *app) pageCommand() *cobra.Command {
	var r api.PageRequest
	var noOpen bool
	cmd := &cobra.Command{
		Use:     "page",
		GroupID: groupLook,
		Short:   "Show what status shows in a browser, as it changes",
		Long: `Print the address of a page that shows what status shows, as it changes, and open
it in a browser where there is a display. The master serves it on this machine
alone, while somebody looks. The address is good for one use within two minutes.

From elsewhere, with the port that was printed:
    ssh -L PORT:127.0.0.1:PORT HOST`,
		Args: arguments(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.connect(cmd.Context())
			if err != nil {
				return asExit(err, exitFailed)
			}
			p, err := c.Page(cmd.Context(), r)
			if err != nil {
				return asExit(err, exitFailed)
			}
			if _, err := fmt.Fprintln(a.out, clean(p.URL)); err != nil {
				return exitf(exitFailed, "writing the output: %v", err)
			}
			if !noOpen && a.hasDisplay() {
				if err := a.browse(p.URL); err != nil {
					fmt.Fprintf(a.err, "masterd: no browser was opened: %v\n", err)
				}
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&r.Act, "act", false, "have the page promote, abort, roll back and hold, too, in your name; for those who may")
	cmd.Flags().BoolVar(&noOpen, "no-open", false, "only print the address")
	return a.talking(cmd)
}

// hasDisplay: somebody sits there. Browsers refuse to be root's.
func (a *app) hasDisplay() bool {
	_, _, terminal := a.terminal()
	return terminal && a.uid != 0 &&
		(runtime.GOOS == "darwin" || a.env("DISPLAY") != "" || a.env("WAYLAND_DISPLAY") != "")
}

// browse opens a page as the desktop does. The browser stays when this program ends.
func browse(url string) error {
	program := "xdg-open"
	if runtime.GOOS == "darwin" {
		program = "open"
	}
	cmd := exec.Command(program, url)
	if err := cmd.Start(); err != nil {
		return err
	}
	return cmd.Process.Release()
}
