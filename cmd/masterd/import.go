package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/masterd/masterd/pkg/master/config"
	"github.com/masterd/masterd/pkg/master/supervisord"
	"github.com/masterd/masterd/pkg/master/unitfile"
)

// importMode: an environment may hold secrets.
const importMode = 0o600

func (a *app) importCommand() *cobra.Command {
	var out string
	cmd := &cobra.Command{
		Use:     "import {FILE | UNIT.service [UNIT.socket]}",
		GroupID: groupOther,
		Short:   "Make configurations of supervisord's, or of a unit of systemd",
		Long: `Read supervisord's configuration FILE, with what it includes, or a unit of systemd
and the socket unit that goes with it, with their drop-ins, and write one
configuration of masterd's for each program: NAME.yaml in the directory that
--out names, for masterd@NAME.service, or all of them to the output. Files that
are there are not touched.

What cannot be carried over is told for each program and key, with the reason, on
standard error and in the file, and the exit code is 7 then. Neither supervisord nor
a service unit knows where programs listen; those that seem to are marked with a TODO.`,
		Args: arguments(1, 2),
		RunE: func(_ *cobra.Command, args []string) error {
			all, err := a.imported(args)
			if err != nil {
				return &exit{exitUsage, err.Error()}
			}
			return a.writeImported(all, out)
		},
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return []string{"conf", "ini", "service", "socket"}, cobra.ShellCompDirectiveFilterFileExt
		},
	}
	cmd.Flags().StringVar(&out, "out", "", "write files into the directory `DIR`")
	cmd.MarkFlagDirname("out")
	return cmd
}

// imports is what was read of other managers' files.
type imports struct {
	notes []string // what is said, in order
	files []importedFile
	open  bool // something is lost, or is to be done by a person
}

// importedFile is a configuration.
type importedFile struct{ service, text string }

// imported reads what the arguments name.
func (a *app) imported(args []string) (*imports, error) {
	// The master will run as root, whoever does this now.
	host := config.SystemHost(a.environ())
	host.Root = true
	all := &imports{}
	note := func(format string, parts ...any) { all.notes = append(all.notes, fmt.Sprintf(format, parts...)) }
	if filepath.Ext(args[0]) == ".service" {
		u, err := unitfile.Import(args[0], strings.Join(args[1:], ""), host)
		if err != nil {
			return nil, err
		}
		for _, n := range u.Notes {
			note("%s: %s: %s", u.Name, n.Key, n.Text)
		}
		all.files, all.open = []importedFile{{u.Service, u.Text}}, u.Open()
		return all, nil
	}
	if len(args) > 1 {
		return nil, fmt.Errorf("%s: two files are a unit of systemd and its socket, UNIT.service UNIT.socket", args[0])
	}
	r, err := supervisord.Import(args[0], a.environ(), host)
	if err != nil {
		return nil, err
	}
	for _, n := range r.Notes {
		note("[%s]: %s", n.Key, n.Text)
	}
	for _, p := range r.Programs {
		for _, n := range p.Notes {
			note("%s: %s: %s", p.Name, n.Key, n.Text)
		}
		if p.Text != "" {
			all.files = append(all.files, importedFile{p.Service, p.Text})
		}
	}
	all.open = r.Open()
	return all, nil
}

func (a *app) writeImported(all *imports, out string) error {
	if out != "" {
		if err := a.importable(all.files, out); err != nil {
			return err
		}
	}
	for _, n := range all.notes {
		fmt.Fprintf(a.err, "masterd: %s\n", clean(n))
	}
	failed := 0
	for _, f := range all.files {
		if out == "" {
			if _, err := fmt.Fprintf(a.out, "--- # %s.yaml\n%s", f.service, f.text); err != nil {
				return exitf(exitFailed, "writing the configurations: %v", err)
			}
			continue
		}
		path := filepath.Join(out, f.service+".yaml")
		if err := writeNew(path, f.text); err != nil {
			fmt.Fprintf(a.err, "masterd: %s\n", clean(err.Error()))
			failed++
			continue
		}
		fmt.Fprintf(a.out, "%s\n", clean(path))
	}
	switch {
	case failed > 0:
		return exitf(exitFailed, "%d configurations could not be written", failed)
	case all.open:
		return exitf(exitOpen, "something was not carried over, or is left to do: see above")
	}
	return nil
}

// importable finds out before anything is written whether all can be.
func (a *app) importable(files []importedFile, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return exitf(exitFailed, "making the directory: %v", err)
	}
	for _, f := range files {
		path := filepath.Join(dir, f.service+".yaml")
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
			return exitf(exitFailed, "%s is there already; nothing was written. Remove it, or name another directory with --out", path)
		}
	}
	return nil
}

// writeNew writes a file that must not be there yet.
func writeNew(path, text string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, importMode)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	if err := errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, os.Remove(path)) // half a configuration is worse than none
	}
	return nil
}
