package version

import (
	"debug/buildinfo"
	"io"
	"runtime/debug"
	"strings"
)

const shortRevision = 12 // hex digits of a VCS revision shown; what Go's pseudo-versions have

// readBuild returns what a Go program says of its own build, nil for others.
func readBuild(r io.ReaderAt) *debug.BuildInfo {
	info, err := buildinfo.Read(r)
	if err != nil {
		return nil
	}
	return info
}

// labelOf names a program for people: the module's version, else the VCS
// revision it was built from, else its digest.
func labelOf(build *debug.BuildInfo, digest string) string {
	if build == nil {
		return shortDigest(digest)
	}
	revision, dirty := revisionOf(build)
	label := build.Main.Version
	// A pseudo-version is a revision that nobody gave a name to, with a date
	// before it that is longer than the rest.
	if label == "" || label == "(devel)" || (revision != "" && strings.Contains(label, revision)) {
		label = revision
		if dirty && label != "" {
			label += "+dirty"
		}
	}
	if label == "" || checkLabel(label) != nil {
		return shortDigest(digest)
	}
	return label
}

// revisionOf returns the short VCS revision, and whether files were changed
// since it.
func revisionOf(build *debug.BuildInfo) (revision string, dirty bool) {
	for _, s := range build.Settings {
		switch s.Key {
		case "vcs.revision":
			revision = s.Value[:min(len(s.Value), shortRevision)]
		case "vcs.modified":
			dirty = s.Value == "true"
		}
	}
	return revision, dirty
}
