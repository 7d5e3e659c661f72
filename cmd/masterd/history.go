package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/pkg/master/config"
	"github.com/masterd/masterd/pkg/master/history"
)

func (a *app) historyCommand() *cobra.Command {
	var n int
	var asJSON, verify bool
	cmd := &cobra.Command{
		Use:     "history",
		GroupID: groupLook,
		Short:   "Show what was done, by whom, why, and how it ended",
		Long: `Show what runs, then the last entries of the history, newest first. "switch" is the
moment at which a rollout has the traffic; how it ended is an entry of its own, after its
bake. TOOK is for how long it had been under way.

The history is kept for 180 days where the disk allows (512 MiB, and a tenth of its
file system at most), as JSON lines in state_dir: history.jsonl, and beside it
those files that were full. Each line has the digest of the one before.

With --verify the files are read, by who may, and the first line that was changed
or is missing is named. A running master says what the last line is. This proves
nothing against those who can write to state_dir (root, and the master's user):
they can change a line and compute the digests of all that follow anew. For that
the log has the last line's digest of each file ("history file"), and should be
kept on another host.`,
		Args: arguments(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if n < 1 || n > api.MaxHistory {
				return exitf(exitUsage, "-n is %d; it can be from 1 to %d", n, api.MaxHistory)
			}
			if verify {
				return a.verifyHistory(cmd.Context())
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
			if err := a.showRunning(cmd.Context(), c); err != nil {
				return exitf(exitFailed, "writing the output: %v", err)
			}
			return a.showHistory(a.out, entries)
		},
	}
	cmd.Flags().IntVarP(&n, "lines", "n", api.DefaultHistory, "show this number of `ENTRIES`, newest first")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON, as GET /v1/history answers it")
	cmd.Flags().BoolVar(&verify, "verify", false, "say whether a line of it was changed or is missing")
	cmd.MarkFlagsMutuallyExclusive("verify", "json")
	cmd.MarkFlagsMutuallyExclusive("verify", "lines")
	return a.talking(cmd)
}

// verifyHistory reads the files of the history itself: a master is only asked where they
// are and how they end.
func (a *app) verifyHistory(ctx context.Context) error {
	path, end, err := a.historyFiles(ctx)
	if err != nil {
		return err
	}
	r, err := history.Verify(path, end)
	if errors.Is(err, fs.ErrPermission) {
		return exitf(exitFailed, "%v: who runs the master may read it", err)
	}
	if err != nil {
		return exitf(exitFailed, "%v", err)
	}
	for _, f := range r.Files {
		text := clean(f.Name) + ": "
		switch {
		case f.Last == 0:
			text += "empty"
		default:
			text += fmt.Sprintf("lines %d to %d, the last one's digest is %s", f.First, f.Last, f.Digest)
		}
		if f.Without > 0 {
			text += fmt.Sprintf("; the first %d were written by an older masterd and have no digests", f.Without)
		}
		if f.Torn {
			text += "; a part of a line follows"
		}
		fmt.Fprintln(a.out, text)
	}
	if r.Wrong != "" {
		return exitf(exitFailed, "%s: %s", clean(filepath.Dir(path)), clean(r.Wrong))
	}
	if f := r.Files[0]; f.First > 1 {
		fmt.Fprintf(a.out, "Lines before %d are not there: they were too old or too many, or somebody has removed them.\n", f.First)
	}
	known := "The last line is the one that the running master says."
	if end == nil {
		known = "No master runs: whether the last line was changed, or lines after it are missing, is not known."
	}
	_, err = fmt.Fprintf(a.out, "Each line has the digest of the one before. %s\n%s\n", known,
		`Who can write to these files can compute all digests anew: compare those above with the log's ("history file").`)
	return err
}

// historyFiles says where the history is, and how it ends if a master runs.
func (a *app) historyFiles(ctx context.Context) (path string, end *history.End, err error) {
	c, err := a.connect(ctx)
	if err == nil {
		var h api.History
		if h, err = c.HistoryEnd(ctx); err == nil && h.File != "" {
			return h.File, &history.End{Line: h.Line, Digest: h.LineDigest}, nil
		}
	}
	file, _ := a.configFile()
	if file == "" {
		return "", nil, asExit(cmp.Or(err, errors.New("this master does not say where its history is: name its configuration with --config")), exitFailed)
	}
	cfg, wrong := config.Load(file, a.environ())
	if wrong != nil {
		return "", nil, &exit{exitUsage, wrong.Error()}
	}
	return filepath.Join(cfg.StateDir, history.FileName), nil, nil
}

// showRunning says what has the traffic.
func (a *app) showRunning(ctx context.Context, c *api.Client) error {
	st, err := c.Status(ctx)
	if err != nil || st.State == "" {
		return nil // the history is what was asked for
	}
	text := "Nothing has the traffic (" + st.State + ")"
	if d := st.Active; d != nil {
		text = fmt.Sprintf("%s (generation %d) runs since %s, for %s", d.Version.Label, d.Generation,
			stamp(d.Since.In(a.now().Location())), span(st.Now.Sub(d.Since)))
		if !d.Baked {
			text += ", not baked yet"
		}
	}
	if r := st.Rollout; r != nil && (st.Active == nil || r.Generation != st.Active.Generation) {
		text += fmt.Sprintf("; %s to %s is at stage %s", r.What, r.Version, r.Stage)
	}
	_, err = fmt.Fprintf(a.out, "%s.\n\n", strings.Join(wrap(clean(text), a.pageWidth()-1), "\n"))
	return err
}

func (a *app) showHistory(w io.Writer, entries []api.Entry) error {
	if len(entries) == 0 {
		_, err := fmt.Fprintln(w, "Nothing has happened yet.")
		return err
	}
	cols := []column{
		{title: "WHEN", keep: true}, {title: "WHAT"}, {title: "VERSION", most: 24}, {title: "GEN", keep: true}, {title: "OUTCOME"}, {title: "TOOK", right: true}, {title: "BY", most: 30},
	}
	const indent = 4
	width, colour := a.pageWidth(), a.colour()
	var rows []row
	for _, e := range entries {
		r := row{cells: []string{
			e.At.In(a.now().Location()).Format("2006-01-02 15:04:05"), clean(e.What), clean(e.Version), move(e.From, e.To), clean(e.Outcome) + times(e.Repeats), took(e), clean(e.By),
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
		if e.WaitedMS != 0 {
			beneath("waited: ", clientsWaited(e))
		}
	}
	_, err := fmt.Fprintln(w, strings.Join(table(cols, rows, 0, width, colour), "\n"))
	return err
}

// took is for how long a rollout had been under way.
func took(e api.Entry) string {
	if e.Began.IsZero() || e.At.Before(e.Began) {
		return ""
	}
	return seconds(e.At.Sub(e.Began))
}

// clientsWaited is how long nobody accepted in a rollout of one version after the other.
func clientsWaited(e api.Entry) string {
	return "clients for up to " + (time.Duration(e.WaitedMS) * time.Millisecond).String() +
		", for one version to end and the next to begin"
}

// times is how often it was so, if it was so several times.
func times(n int) string {
	if n < 2 {
		return ""
	}
	return ", " + amount(uint64(n)) + " times"
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
