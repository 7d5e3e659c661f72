package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/masterd/masterd/pkg/api"
)

const (
	// listTimeout bounds the wait for each service of a list.
	listTimeout = 3 * time.Second
	// listAtOnce is how many are asked at one time.
	listAtOnce = 16
	// listColumns is how wide a list may be: a path that is cut is of no use.
	listColumns = 200
)

// listed is one service of this host.
type listed struct {
	Service    string    `json:"service"`
	State      string    `json:"state"`                // as status says it; "unknown": it could not be asked; "no master": its workers serve on
	Why        string    `json:"why,omitempty"`        // it could not, and who serves on without a master
	Generation uint64    `json:"generation,omitempty"` // that has the traffic
	Version    string    `json:"version,omitempty"`
	Serving    int       `json:"serving"` // workers of it that serve and pass their checks
	Workers    int       `json:"workers"` // all of it
	Since      time.Time `json:"since,omitzero"`
	ConfigFile string    `json:"config_file,omitempty"`
	RuntimeDir string    `json:"runtime_dir"`
}

func (a *app) listCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "list",
		GroupID: groupLook,
		Short:   "List the services that run on this host",
		Long: `List the services that run on this host, one in a row: how each is, the version
that has the traffic, how many of its workers serve, since when, and its
configuration.

Root sees those of root; another user sees these, as far as they may be asked,
and those of their own. Nothing is asked of masters that others could have put
there.`,
		Args: arguments(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			all := a.list(cmd.Context())
			if asJSON {
				return printJSON(a.out, struct {
					Schema   int      `json:"schema"`
					Services []listed `json:"services"`
				}{api.Schema, all})
			}
			return a.showList(all)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// list asks all services that can be found, some at one time, and sorts them by name.
func (a *app) list(ctx context.Context) []listed {
	owners := a.owners("")
	var (
		mu   sync.Mutex
		wait sync.WaitGroup
		all  = []listed{}
		turn = make(chan struct{}, listAtOnce)
	)
	for _, p := range a.places(owners) {
		info, err := os.Lstat(filepath.Join(p.path, adminSocket))
		switch {
		case errors.Is(err, fs.ErrPermission): // who may not look there is told so by asking
		case err != nil || info.Mode().Type() != fs.ModeSocket:
			continue
		}
		turn <- struct{}{}
		wait.Go(func() {
			defer func() { <-turn }()
			l, ok := describeService(ctx, a.client(p.path, owners), p)
			if u, left := leftBehind(p, owners); !ok && left {
				l.State, l.Why, ok = "no master", u.String(), true
			}
			if ok {
				mu.Lock()
				defer mu.Unlock()
				all = append(all, l)
			}
		})
	}
	wait.Wait()
	slices.SortFunc(all, func(x, y listed) int {
		return cmp.Or(strings.Compare(x.Service, y.Service), strings.Compare(x.RuntimeDir, y.RuntimeDir))
	})
	return all
}

// describeService asks one; false: nobody is there, or nobody who is trusted.
func describeService(ctx context.Context, c *api.Client, p place) (listed, bool) {
	ctx, cancel := context.WithTimeout(ctx, listTimeout)
	defer cancel()
	l := listed{Service: p.service, State: "unknown", ConfigFile: p.config, RuntimeDir: p.path}
	st, err := c.Status(ctx)
	var f *api.Fault
	switch {
	case errors.As(err, &f) && (f.Kind == api.NoMaster || f.Kind == api.Untrusted):
		return l, false
	case errors.As(err, &f) && f.Kind == api.Denied:
		l.Why = "you may not ask it"
		return l, true
	case err != nil:
		l.Why = err.Error()
		return l, true
	}
	l.Service, l.State, l.ConfigFile = cmp.Or(st.Service, p.service), st.State, st.ConfigFile
	d := st.Active
	if d == nil {
		return l, true
	}
	l.Generation, l.Version, l.Since = d.Generation, d.Version.Label, d.Since
	for _, g := range st.Generations {
		if g.ID != d.Generation {
			continue
		}
		l.Workers = len(g.Workers)
		for _, w := range g.Workers {
			if w.Phase == "active" && w.Healthy {
				l.Serving++
			}
		}
	}
	return l, true
}

func (a *app) showList(all []listed) error {
	if len(all) == 0 {
		_, err := fmt.Fprintf(a.out, "No running service was found in %s.\n", clean(strings.Join(a.bases(a.owners("")), " or ")))
		return err
	}
	cols := []column{
		{title: "SERVICE", most: 30}, {title: "STATE"}, {title: "VERSION", most: 24}, {title: "WORKERS", right: true},
		{title: "SINCE", right: true}, {title: "CONFIGURATION"},
	}
	width, now := a.widthUpTo(listColumns), a.now()
	var rows []row
	for _, l := range all {
		workers, since := "-", "-"
		if l.Workers > 0 {
			workers = fmt.Sprintf("%d of %d", l.Serving, l.Workers)
		}
		if !l.Since.IsZero() {
			since = span(now.Sub(l.Since)) + " ago"
		}
		r := row{cells: []string{clean(l.Service), clean(l.State), cmp.Or(clean(l.Version), "-"), workers, since, clean(l.ConfigFile)}}
		switch l.State {
		case "serving":
		case "down":
			r.style = red
		default:
			r.style = yellow
		}
		rows = append(rows, r)
		for _, line := range wrap(clean(l.Why), width-4) {
			rows = append(rows, row{note: "    " + paint(a.colour(), yellow, line)})
		}
	}
	_, err := fmt.Fprintln(a.out, strings.Join(table(cols, rows, 0, width, a.colour()), "\n"))
	return err
}
