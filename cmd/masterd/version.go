package main

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"
)

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		GroupID: groupOther,
		Short:   "Print masterd's own version",
		Args:    arguments(0, 0),
		RunE:    func(*cobra.Command, []string) error { return a.printVersion() },
	}
}

func (a *app) printVersion() error {
	_, err := fmt.Fprintln(a.out, buildInfo())
	return err
}

// build is what the Go tool wrote into this program.
type build struct {
	version  string
	commit   string // empty: unknown
	time     string
	modified bool
	goVer    string
}

// version is set by the Makefile (-X main.version=...); empty: the build
// information tells.
var version string

func buildInfo() build {
	b := build{version: "(unknown)", goVer: runtime.Version()}
	info, ok := debug.ReadBuildInfo()
	switch {
	case version != "":
		b.version = version
	case ok && info.Main.Version != "":
		b.version = info.Main.Version
	}
	if !ok {
		return b
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.commit = s.Value
		case "vcs.time":
			b.time = s.Value
		case "vcs.modified":
			b.modified = s.Value == "true"
		}
	}
	return b
}

// short is the version for a line that has more to say.
func (b build) short() string {
	const commit = 12 // digits
	if b.version == "(devel)" && b.commit != "" {
		return "devel-" + b.commit[:min(commit, len(b.commit))]
	}
	return strings.Trim(b.version, "()")
}

func (b build) String() string {
	s := fmt.Sprintf("masterd %s\ngo      %s %s/%s", b.short(), b.goVer, runtime.GOOS, runtime.GOARCH)
	if b.commit == "" {
		return s + "\ncommit  unknown: built without version control"
	}
	s += "\ncommit  " + b.commit
	if b.time != "" {
		s += " of " + b.time
	}
	if b.modified {
		s += ", with uncommitted changes"
	}
	return s
}
