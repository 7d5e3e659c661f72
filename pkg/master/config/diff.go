package config

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Change is one key whose value is another.
type Change struct {
	Key     string // its path; listeners by name: "listeners[http].backlog"
	Old     string // as it would be written; empty: there was none. Secrets are "(set)"
	New     string
	Restart bool // takes effect only when the master is restarted
}

// Diff is what changed between two configurations, in the order of the schema.
// Where they came from makes no difference. What cannot be compared in its
// shown form, as it is secret, is compared by its value.
func Diff(old, new *Config) []Change {
	s := newSchema()
	was, names := settings(s, old)
	is, newNames := settings(s, new)
	for _, n := range newNames {
		if _, ok := was[n]; !ok {
			names = append(names, n)
		}
	}
	var all []Change
	for _, name := range names {
		a, b := was[name], is[name]
		if a.exact != b.exact {
			all = append(all, Change{Key: name, Old: a.shown, New: b.shown, Restart: a.key.Restart || b.key.Restart})
		}
	}
	order := map[string]int{}
	for i, k := range s.keys {
		order[k.Path] = i
	}
	slices.SortStableFunc(all, func(x, y Change) int { return cmp.Compare(order[was.key(is, x.Key)], order[was.key(is, y.Key)]) })
	return all
}

// WithCommand is a copy of c that runs another program, with the same
// arguments. binary is an absolute path.
func WithCommand(c *Config, binary string) *Config {
	d := *c
	d.Worker.Command = slices.Clone(c.Worker.Command)
	if len(d.Worker.Command) == 0 {
		d.Worker.Command = []string{""}
	}
	d.Worker.Command[0] = binary
	return &d
}

// setting is a value in two forms: for people, and for comparing.
type setting struct {
	key   Key
	shown string
	exact string
}

type settingsByName map[string]setting

// key is the schema's path of a setting that either side has.
func (m settingsByName) key(other settingsByName, name string) string {
	if s, ok := m[name]; ok {
		return s.key.Path
	}
	return other[name].key.Path
}

// settings are all values of a configuration, and their names in order.
// Listeners go by their name, so that another order is no change; a short list is one setting.
func settings(s schema, c *Config) (settingsByName, []string) {
	all := settingsByName{}
	var names []string
	put := func(name string, v setting) {
		all[name] = v
		names = append(names, name)
	}
	for _, f := range s.fields(c) {
		if strings.Contains(f.path, "[") {
			continue
		}
		if p, ok := f.ptr.(*map[string]string); ok {
			for _, name := range slices.Sorted(maps.Keys(*p)) {
				put(joinPath(f.path, name), setting{f.key, hidden, "=" + (*p)[name]})
			}
			continue
		}
		shown := show(f)
		put(f.path, setting{f.key, shown, shown})
	}
	for i := range c.Listeners {
		for _, f := range s.itemFields("listeners", i, &c.Listeners[i]) {
			if f.key.Name() == "name" {
				continue
			}
			shown := show(f)
			put(fmt.Sprintf("listeners[%s].%s", c.Listeners[i].Name, f.key.Name()), setting{f.key, shown, shown})
		}
	}
	for _, l := range shortLists() {
		shown := l.show(c)
		put(l.path, setting{s.byPath[l.path], shown, shown})
	}
	return all, names
}
