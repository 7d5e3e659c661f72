package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/masterd/masterd/pkg/api"
)

func (a *app) statusCommand() *cobra.Command {
	var asJSON, watch bool
	cmd := &cobra.Command{
		Use:     "status",
		GroupID: groupLook,
		Short:   "Show what runs, how it is, and what is under way",
		Long: `Show what runs, since when, by whom and why; listeners, generations and workers;
the running rollout and the last failure. The line "contained" says whether each
worker is in a cgroup of its own, by which all that it starts is ended with it, or
why not; what it leaves is then found by session and environment.

With --watch on a terminal, how the service is, what failed and what to type stay in
sight, the rest scrolls, and the requests in a second of workers that count them are shown.

Where no master runs it names the workers that a dead one has left, which serve on,
and what to type so that the next one takes them over.

Exit code: 0 serving, 1 not as it should be, 3 not running, 4 unknown.`,
		Args: arguments(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			show := a.showPage
			if asJSON {
				show = a.showJSON
			}
			if watch {
				return a.watch(cmd.Context(), asJSON)
			}
			st, err := a.askStatus(cmd.Context())
			if err != nil {
				return statusExit(err)
			}
			if err := show(a.out, st); err != nil {
				return exitf(exitStatusUnknown, "writing the status: %v", err)
			}
			if st.State != "serving" {
				return &exit{code: exitStatusDegraded} // the page says why
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON, as GET /v1/status answers it")
	cmd.Flags().BoolVar(&watch, "watch", false, "show it anew each second, until interrupted; on a terminal q quits, the arrows, PgUp and PgDn scroll; with --json: a line each")
	return a.talking(cmd)
}

// showPage prints the page in the operator's own time zone.
func (a *app) showPage(w io.Writer, st api.Status) error {
	st.Now = st.Now.In(a.now().Location())
	return render(w, st, a.pageWidth(), a.colour(), a.which()...)
}

// which are the flags that name the service that was named.
func (a *app) which() []string {
	switch {
	case a.service != "":
		return []string{"--service", a.service}
	case a.config != "":
		return []string{"--config", a.config}
	}
	return nil
}

func (a *app) showJSON(w io.Writer, st api.Status) error { return printJSON(w, st) }

// printJSON prints v for programs, and harmlessly for terminals.
func printJSON(w io.Writer, v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(w, cleanJSON(b))
	return err
}

// statusExit finds the LSB's code: whoever cannot ask does not know.
func statusExit(err error) error {
	if errors.Is(err, context.Canceled) {
		return nil
	}
	e := asExit(err, exitStatusUnknown)
	if e.code != exitNoMaster {
		e.code = exitStatusUnknown
	}
	return e
}
