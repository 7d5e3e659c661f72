package process

import (
	"iter"
	"strings"
)

// Cgroups are the lines of a /proc/PID/cgroup: the names of a hierarchy's controllers,
// which are none in version 2, and the path there.
func Cgroups(text string) iter.Seq2[string, string] {
	return func(yield func(names, path string) bool) {
		for line := range strings.Lines(text) {
			_, rest, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ":")
			if names, path, _ := strings.Cut(rest, ":"); !yield(names, path) {
				return
			}
		}
	}
}
