package main

import "runtime/debug"

// version is set with -ldflags "-X main.version=v1".
var version string

// resolveVersion says what this program is: what it was built as, else what the
// master calls it, else what the Go command wrote into it.
func resolveVersion(label string) string {
	if version != "" {
		return version
	}
	if label != "" {
		return label
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" && len(s.Value) >= 12 {
				return s.Value[:12]
			}
		}
		if v := info.Main.Version; v != "" && v != "(devel)" {
			return v
		}
	}
	return "dev"
}
