package version

import (
	"cmp"
	"fmt"
	"maps"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
)

// Change is one difference between two versions.
type Change struct {
	// "program", "size", "label", "path", "go", "vcs", "module", "argument", "env", "env file",
	// "directory"
	What     string
	Name     string // which module, argument (by position), variable or setting; may be empty
	From, To string // empty: not there. Of environment values only "set" or "another value": they may be secrets
}

// String is one line for people, with - + or ~ in front.
func (c Change) String() string {
	name := strings.TrimSpace(c.What + " " + c.Name)
	switch {
	case c.From == "":
		return "+ " + name + ": " + c.To
	case c.To == "":
		return "- " + name + ": " + c.From
	case c.What == "env":
		return "~ " + name + ": " + c.To
	}
	return "~ " + name + ": " + c.From + " -> " + c.To
}

// Diff says how the version with ID b differs from the one with ID a;
// nothing when they are the same. Environment values are never part of it.
func (s *Store) Diff(a, b string) ([]Change, error) {
	s.mu.Lock()
	from, okA := s.records[a]
	to, okB := s.records[b]
	s.mu.Unlock()
	if !okA || !okB {
		missing := a
		if okA {
			missing = b
		}
		return nil, fmt.Errorf("compare versions: %s is not in the store", missing)
	}
	var d difference
	d.add("label", "", from.Label, to.Label)
	d.add("program", "", shortDigest(from.Digest), shortDigest(to.Digest))
	d.add("size", "", strconv.FormatInt(from.Size, 10), strconv.FormatInt(to.Size, 10))
	d.add("path", "", from.Resolved, to.Resolved)
	d.builds(from.Build, to.Build)
	for i := range max(len(from.Args), len(to.Args)) {
		d.add("argument", strconv.Itoa(i), argument(from.Args, i), argument(to.Args, i))
	}
	d.env(from.Env, to.Env)
	for _, path := range sortedUnion(set(from.EnvFiles), set(to.EnvFiles)) {
		d.add("env file", path, present(slices.Contains(from.EnvFiles, path)), present(slices.Contains(to.EnvFiles, path)))
	}
	d.add("directory", "", from.Dir, to.Dir)
	return d.changes, nil
}

type difference struct{ changes []Change }

func (d *difference) add(what, name, from, to string) {
	if from != to {
		d.changes = append(d.changes, Change{What: what, Name: name, From: from, To: to})
	}
}

func (d *difference) env(from, to map[string]string) {
	for _, name := range sortedUnion(from, to) {
		was, wasSet := from[name]
		is, isSet := to[name]
		switch {
		case wasSet && isSet && was != is:
			d.add("env", name, "set", "another value")
		default:
			d.add("env", name, present(wasSet), present(isSet))
		}
	}
}

// builds compares what two Go programs say of their build; programs of other
// languages say nothing.
func (d *difference) builds(from, to string) {
	a, b := parseBuild(from), parseBuild(to)
	d.add("go", "", a.GoVersion, b.GoVersion)
	settings := func(info *debug.BuildInfo) map[string]string {
		m := map[string]string{}
		for _, s := range info.Settings {
			if name, ok := strings.CutPrefix(s.Key, "vcs."); ok {
				m[name] = s.Value
			}
		}
		return m
	}
	was, is := settings(a), settings(b)
	for _, name := range sortedUnion(was, is) {
		d.add("vcs", name, was[name], is[name])
	}
	modules := func(info *debug.BuildInfo) map[string]string {
		m := map[string]string{}
		for _, dep := range append([]*debug.Module{&info.Main}, info.Deps...) {
			if dep.Path == "" {
				continue
			}
			m[dep.Path] = cmp.Or(dep.Version, "(devel)")
			if dep.Replace != nil {
				m[dep.Path] += " => " + strings.TrimSpace(dep.Replace.Path+" "+dep.Replace.Version)
			}
		}
		return m
	}
	was, is = modules(a), modules(b)
	for _, path := range sortedUnion(was, is) {
		d.add("module", path, was[path], is[path])
	}
}

func parseBuild(text string) *debug.BuildInfo {
	info, err := debug.ParseBuildInfo(text)
	if text == "" || err != nil {
		return &debug.BuildInfo{}
	}
	// The first line says which Go; ParseBuildInfo passes over it.
	line, _, _ := strings.Cut(text, "\n")
	info.GoVersion, _ = strings.CutPrefix(line, "go\t")
	return info
}

// argument quotes, so that an empty one differs from none.
func argument(args []string, i int) string {
	if i >= len(args) {
		return ""
	}
	return strconv.Quote(args[i])
}

func present(ok bool) string {
	if ok {
		return "set"
	}
	return ""
}

func set(names []string) map[string]string {
	m := make(map[string]string, len(names))
	for _, name := range names {
		m[name] = ""
	}
	return m
}

func sortedUnion(a, b map[string]string) []string {
	all := maps.Clone(a)
	if all == nil {
		all = map[string]string{}
	}
	maps.Copy(all, b)
	return slices.Sorted(maps.Keys(all))
}
