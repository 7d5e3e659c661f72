package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/masterd/masterd/pkg/master/config"
	"github.com/masterd/masterd/pkg/master/supervisord"
)

// importMode: an environment may hold secrets.
const importMode = 0o600

func (a *app) importCommand() *cobra.Command {
	var out string
	cmd := &cobra.Command{
		Use:     "import FILE",
		GroupID: groupOther,
		Short:   "Make configurations of supervisord's",
		Long: `Read supervisord's configuration FILE, with what it includes, and write one
configuration of masterd's for each program: NAME.yaml in the directory that
--out names, for masterd@NAME.service, or all of them to the output. Files that
are there are not touched.

What cannot be carried over is told for each program and key, with the reason,
and the exit code is 7 then. supervisord does not know where its programs listen;
those that seem to are marked with a TODO.`,
		Args: arguments(1, 1),
		RunE: func(_ *cobra.Command, args []string) error { return a.importSupervisord(args[0], out) },
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return []string{"conf", "ini"}, cobra.ShellCompDirectiveFilterFileExt
		},
	}
	cmd.Flags().StringVar(&out, "out", "", "write files into the directory `DIR`")
	cmd.MarkFlagDirname("out")
	return cmd
}

func (a *app) importSupervisord(file, out string) error {
	// The master will run as root, whoever does this now.
	host := config.SystemHost(a.environ())
	host.Root = true
	r, err := supervisord.Import(file, a.environ(), host)
	if err != nil {
		return &exit{exitUsage, err.Error()}
	}
	if out != "" {
		if err := a.importable(r, out); err != nil {
			return err
		}
	}
	for _, n := range r.Notes {
		fmt.Fprintf(a.err, "masterd: %s\n", clean(fmt.Sprintf("[%s]: %s", n.Key, n.Text)))
	}
	failed := 0
	for _, p := range r.Programs {
		for _, n := range p.Notes {
			fmt.Fprintf(a.err, "masterd: %s\n", clean(fmt.Sprintf("%s: %s: %s", p.Name, n.Key, n.Text)))
		}
		if p.Text == "" {
			continue
		}
		if out == "" {
			if _, err := fmt.Fprintf(a.out, "--- # %s.yaml\n%s", p.Service, p.Text); err != nil {
				return exitf(exitFailed, "writing the configurations: %v", err)
			}
			continue
		}
		path := filepath.Join(out, p.Service+".yaml")
		if err := writeNew(path, p.Text); err != nil {
			fmt.Fprintf(a.err, "masterd: %s\n", clean(err.Error()))
			failed++
			continue
		}
		fmt.Fprintf(a.out, "%s\n", clean(path))
	}
	switch {
	case failed > 0:
		return exitf(exitFailed, "%d configurations could not be written", failed)
	case r.Open():
		return exitf(exitOpen, "something was not carried over, or is left to do: see above")
	}
	return nil
}

// importable finds out before anything is written whether all can be.
func (a *app) importable(r *supervisord.Result, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return exitf(exitFailed, "making the directory: %v", err)
	}
	for _, p := range r.Programs {
		path := filepath.Join(dir, p.Service+".yaml")
		if _, err := os.Lstat(path); p.Text != "" && !errors.Is(err, fs.ErrNotExist) {
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
