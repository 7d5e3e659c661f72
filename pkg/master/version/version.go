// Package version keeps what is run so that it can be run again: after a crash
// and at a rollback the same bytes, arguments, environment and directory,
// whatever has since happened to the file they came from.
//
// A [Store] is a directory with one entry per version. A self-contained program
// is pinned as a read-only copy (a reflink where the file system can: a hard
// link would change with a cp over the original); others are watched at the
// path they have, and [Version.Why] says why. Digests are checked before each
// exec, not trusted.
//
// What was hashed is what is executed: [Store.ExecutableBy] gives the original's path only
// if nobody else could put another program there between the two, and else the copy's. A
// descriptor would do for a binary but not for a script, and before Linux 6.14 it gives the
// process a number for a name. A version in ModePath has no copy; `masterd versions` and
// `masterd check` say who could exchange it, and whoever can do that can change the files
// beside it, too.
//
// The settings with which a version was run are remembered and not part of it: a service
// may learn a better way to check what it runs. A version that has proved itself keeps those
// that it did so with ([Store.Prove]); a later attempt with others that fails does not spoil it.
//
// A label that was given is part of a version. A worker is told its label, and a rollback to
// v1 must find v1, also when v2 was the same program.
package version

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode"
)

// Modes of pinning.
const (
	ModeAuto = "auto" // in a Source only: copy what can be copied, else path
	ModeCopy = "copy" // a copy in the store is run when the original has changed
	ModePath = "path" // nothing is copied: runs only while the original has the digest
)

// Limits of a store and of what can be pinned.
const (
	maxVersions = 256     // entries in one store
	maxProgram  = 4 << 30 // bytes of a program
	// bytes of one meta.json: arguments and environment (the kernel takes 2 MiB or so) and the
	// module list
	maxMeta   = 8 << 20
	maxBuild  = 1 << 20 // bytes of Go build information kept for Diff
	maxLabel  = 64      // bytes of a label
	idDigits  = 12      // hex digits of a version's ID
	minPrefix = 4       // characters of an ID or digest prefix that Resolve accepts
)

// Source is what shall be pinned.
type Source struct {
	Program  string            // absolute path; symbolic links are resolved once, at Pin
	Args     []string          // the whole argument list, with [0]
	Env      map[string]string // part of the version, values included
	EnvFiles []string          // paths only: their content is read at each start and never stored
	Dir      string            // working directory, absolute; resolved at Pin
	Label    string            // for people; empty: taken from the program's Go build information, else its digest
	Mode     string            // ModeAuto (also when empty), ModeCopy or ModePath
	// names of the listeners it is run with; remembered, no part of what makes it this version
	Listeners []string
	// how it is spoken to, checked and ended, in a form that is its owner's; the same
	Settings    json.RawMessage
	LooksBeside bool // the program looks for files beside itself: never run from a copy
}

// Version is one pinned version. Everything but Program, Resolved and Held
// follows from what ID is made of.
type Version struct {
	ID        string            // 12 hex digits over program, arguments, environment, directory and given label
	Label     string            // for people; need not be unique
	Digest    string            // of the program alone, "sha256:HEX"
	Program   string            // the path it was last pinned from, as configured
	Resolved  string            // the same without symbolic links: what is run while it has the digest
	Pinned    string            // the copy in the store; empty in ModePath
	Mode      string            // ModeCopy or ModePath
	Why       string            // why that mode, for people
	Args      []string          // with [0]
	Env       map[string]string // may hold secrets: show names only
	EnvFiles  []string
	Listeners []string // it was last pinned with; nil: not known
	// that it has proved itself with or, until it has, was last pinned with; nil: an earlier
	// masterd has kept it
	Settings json.RawMessage
	Dir      string    // resolved
	Created  time.Time // first pinned
	Last     time.Time // last pinned; what "newest" means
	Size     int64     // bytes of the program
	Held     bool      // pinned by hand: never pruned
}

// clone returns a copy that shares nothing with v.
func (v Version) clone() Version {
	v.Args = slices.Clone(v.Args)
	v.Env = maps.Clone(v.Env)
	v.EnvFiles = slices.Clone(v.EnvFiles)
	v.Listeners = slices.Clone(v.Listeners)
	v.Settings = slices.Clone(v.Settings)
	return v
}

// String names a version for people: "v1.4.2 (3f2a9c01d7e4)".
func (v Version) String() string {
	return fmt.Sprintf("%s (%s)", v.Label, v.ID)
}

// checkLabel refuses labels that would break a line of output or a URL.
func checkLabel(label string) error {
	switch {
	case len(label) > maxLabel:
		return fmt.Errorf("the label has %d bytes, at most %d are allowed", len(label), maxLabel)
	case strings.ContainsFunc(label, func(r rune) bool { return !unicode.IsGraphic(r) || unicode.IsSpace(r) }):
		return fmt.Errorf("the label %q has spaces or characters that cannot be shown", label)
	case strings.HasPrefix(label, "-"):
		return fmt.Errorf("the label %q begins with a dash and would be taken for a flag", label)
	}
	return nil
}

// shortDigest is the label of a program that says nothing about itself.
func shortDigest(digest string) string {
	_, digits, _ := strings.Cut(digest, ":")
	return digits[:min(len(digits), idDigits)]
}
