package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/masterd/masterd/pkg/api"
)

func (a *app) historyCommand() *cobra.Command {
	var n int
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "history",
		GroupID: groupLook,
		Short:   "Show what was done, by whom, why, and how it ended",
		Args:    arguments(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if n < 1 || n > api.MaxHistory {
				return exitf(exitUsage, "-n is %d; it can be from 1 to %d", n, api.MaxHistory)
			}
			c, err := a.connect(cmd.Context())
			if err != nil {
				return asExit(err, exitFailed)
			}
			entries, err := c.History(cmd.Context(), n)
			if err != nil {
				return asExit(err, exitFailed)
			}
			if asJSON {
				return printJSON(a.out, api.History{Schema: api.Schema, Entries: entries})
			}
			return a.showHistory(a.out, entries)
		},
	}
	cmd.Flags().IntVarP(&n, "lines", "n", api.DefaultHistory, "show this number of `ENTRIES`, newest first")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON, as GET /v1/history answers it")
	return a.talking(cmd)
}

func (a *app) showHistory(w io.Writer, entries []api.Entry) error {
	if len(entries) == 0 {
		_, err := fmt.Fprintln(w, "Nothing has happened yet.")
		return err
	}
	cols := []column{
		{title: "WHEN", keep: true}, {title: "WHAT"}, {title: "VERSION", most: 24}, {title: "GEN", keep: true}, {title: "OUTCOME"}, {title: "BY", most: 30},
	}
	const indent = 4
	width, colour := a.pageWidth(), a.colour()
	var rows []row
	for _, e := range entries {
		r := row{cells: []string{
			e.At.In(a.now().Location()).Format("2006-01-02 15:04:05"), clean(e.What), clean(e.Version), move(e.From, e.To), clean(e.Outcome), clean(e.By),
		}}
		if e.Outcome != api.ResultDone {
			r.style = yellow
		}
		rows = append(rows, r)
		beneath := func(label, text string) {
			for i, l := range wrap(clean(text), width-indent-len(label)) {
				if i > 0 {
					label = strings.Repeat(" ", len(label))
				}
				rows = append(rows, row{note: strings.Repeat(" ", indent) + paint(colour, dim, label) + l})
			}
		}
		beneath("why: ", e.Why)
		label := "reason: "
		if e.Stage != "" && e.Reason != "" {
			label = clean(e.Stage) + ": "
		}
		beneath(label, e.Reason)
	}
	_, err := fmt.Fprintln(w, strings.Join(table(cols, rows, 0, width, colour), "\n"))
	return err
}

// move is from which generation to which.
func move(from, to uint64) string {
	switch {
	case from == 0 && to == 0:
		return ""
	case from == 0 || from == to:
		return strconv.FormatUint(to, 10)
	case to == 0:
		return strconv.FormatUint(from, 10)
	}
	return fmt.Sprintf("%d -> %d", from, to)
}
