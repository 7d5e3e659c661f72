package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/masterd/masterd/pkg/api"
)

func (a *app) versionsCommand() *cobra.Command {
	list := a.versionsListCommand()
	cmd := &cobra.Command{
		Use:     "versions",
		GroupID: groupRollout,
		Short:   "List, keep and compare pinned versions",
		Long: `List the pinned versions, newest first. They are what a rollback can go to; the
newest rollout.keep_versions stay, and those that are in use or kept by hand. Each is
run as it was, with its own worker.kind, health and all other keys of which
masterd.yaml(5) says that they are kept with each version; one that an earlier masterd
has kept has none of its own, and is run with today's settings.`,
		Args:                       a.knownVerb,
		SuggestionsMinimumDistance: 2,
		RunE:                       list.RunE,
	}
	a.talking(cmd)
	cmd.Flags().AddFlagSet(list.LocalNonPersistentFlags())
	cmd.AddCommand(list, a.pinCommand("pin", true, "Keep a version until unpin"), a.pinCommand("unpin", false, "Let a kept version go again"), a.diffCommand())
	return cmd
}

func (a *app) versionsListCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the pinned versions, newest first",
		Args:  arguments(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.connect(cmd.Context())
			if err != nil {
				return asExit(err, exitFailed)
			}
			versions, err := c.Versions(cmd.Context())
			if err != nil {
				return asExit(err, exitFailed)
			}
			if asJSON {
				return printJSON(a.out, api.Versions{Schema: api.Schema, Versions: versions})
			}
			return a.showVersions(a.out, versions)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON, as GET /v1/versions answers it")
	return a.talking(cmd)
}

func (a *app) showVersions(w io.Writer, versions []api.Version) error {
	if len(versions) == 0 {
		_, err := fmt.Fprintln(w, "No version is pinned yet.")
		return err
	}
	cols := []column{
		{title: "VERSION", most: 30}, {title: "ID", most: 16, keep: true}, {title: "DIGEST", drop: 1}, {title: "USE"}, {title: "RESULT"}, {title: "AGE", right: true}, {title: "PINNED", keep: true, drop: 1},
		{title: "SIZE", right: true}, {title: "MODE", drop: 1}, {title: "NOTE"},
	}
	var rows []row
	for _, v := range versions {
		var notes []string
		if v.Held {
			notes = append(notes, "kept by hand")
		}
		if v.Closed && v.Result != "rolled back" {
			notes = append(notes, "rolled back")
		}
		if len(v.Settings) == 0 {
			notes = append(notes, "today's settings")
		}
		r := row{cells: []string{
			clean(v.Label), clean(v.ID), shortDigest(clean(v.Digest)), clean(v.Use), clean(v.Result), span(a.now().Sub(v.Created)), v.Created.In(a.now().Location()).Format("2006-01-02 15:04"),
			size(v.Size), clean(v.Mode), strings.Join(notes, ", "),
		}}
		if v.Use == "active" {
			r.style = green
		}
		rows = append(rows, r)
	}
	_, err := fmt.Fprintln(w, strings.Join(table(cols, rows, 0, a.pageWidth(), a.colour()), "\n"))
	return err
}

func (a *app) pinCommand(name string, on bool, short string) *cobra.Command {
	cmd := &cobra.Command{
		Use:               name + " VERSION",
		Short:             short,
		Args:              arguments(1, 1),
		ValidArgsFunction: a.completeVersions(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.connect(cmd.Context())
			if err != nil {
				return asExit(err, exitFailed)
			}
			v, err := c.PinVersion(cmd.Context(), args[0], on)
			if err != nil {
				return asExit(err, exitUnknown)
			}
			what := "is kept until it is unpinned"
			if !v.Held {
				what = "goes when its time comes"
			}
			_, err = fmt.Fprintf(a.out, "%s (%s) %s\n", clean(v.Label), clean(v.ID), what)
			return err
		},
	}
	return a.talking(cmd)
}

func (a *app) diffCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "diff A B",
		Short: "Tell how version B differs from version A",
		Long: `Tell how version B differs from version A: its program, arguments and environment,
and the settings that each of them keeps. All other keys of the configuration are today's,
whichever of them runs.`,
		Args:              arguments(2, 2),
		ValidArgsFunction: a.completeVersions(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.connect(cmd.Context())
			if err != nil {
				return asExit(err, exitFailed)
			}
			lines, err := c.DiffVersions(cmd.Context(), args[0], args[1])
			if err != nil {
				return asExit(err, exitFailed)
			}
			if len(lines) == 0 {
				lines = []string{"They are the same."}
			}
			for _, l := range lines {
				if _, err := fmt.Fprintln(a.out, cleanOutput(l)); err != nil {
					return err
				}
			}
			return nil
		},
	}
	return a.talking(cmd)
}
