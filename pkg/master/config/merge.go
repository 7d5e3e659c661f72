package config

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/viper"
)

// merge lets viper decide, for every scalar, between the environment, the file
// and the default. It is given texts and gives back texts: what viper would
// make of them ("10" as ten nanoseconds) is not strict enough, and its maps
// lower-case their keys. No value here has a delimiter that it could split.
func merge(s schema, d *document, over environment) *viper.Viper {
	v := viper.NewWithOptions(viper.KeyDelimiter("\x00"))
	file := map[string]any{}
	for _, k := range s.keys {
		if !k.merged() {
			continue
		}
		v.SetDefault(k.Path, k.Default)
		if n := d.nodes[k.Path]; n != nil {
			file[k.Path] = n.Value
		}
	}
	if err := v.MergeConfigMap(file); err != nil {
		panic("config: merging a map of texts failed: " + err.Error()) // it has no cause to
	}
	for path, o := range over.values {
		v.Set(path, o.text)
	}
	return v
}

// environment is what MASTERD_… variables override.
type environment struct {
	values   map[string]override // by path
	warnings []string
}

type override struct{ name, text string }

// names are the variables, by path.
func (e environment) names() map[string]string {
	m := map[string]string{}
	for path, o := range e.values {
		m[path] = o.name
	}
	return m
}

// notKeys are variables of masterd that are no keys: the command line's, those
// given to workers, hooks and checks.
func notKeys() []string {
	return []string{
		"MASTERD_CONFIG", "MASTERD_CONTROL", "MASTERD_CONTROL_FD", "MASTERD_WORKER", "MASTERD_SECRET", "MASTERD_GENERATION", "MASTERD_VERSION",
		"MASTERD_WORKER_ID", "MASTERD_WORKER_PID", "MASTERD_WORKER_GENERATION", "MASTERD_WORKER_VERSION",
		"MASTERD_HOOK", "MASTERD_ROLLOUT", "MASTERD_DIGEST", "MASTERD_OUTCOME", "MASTERD_STAGE", "MASTERD_REASON", "MASTERD_TRACE_ID",
	}
}

// givenByMaster are variables that only a child of a master has. To such a
// child MASTERD_SERVICE says whose it is; it overrides nothing.
func givenByMaster() []string {
	return []string{"MASTERD_CONTROL", "MASTERD_WORKER", "MASTERD_WORKER_ID", "MASTERD_HOOK"}
}

// readEnvironment finds the variables that name keys, and those that nearly
// do. An empty variable is as one that is not set.
func readEnvironment(env []string, s schema) environment {
	e := environment{values: map[string]override{}}
	vars := environ(env)
	byName := map[string]Key{}
	var known []string
	for _, k := range s.keys {
		if k.Env != "" {
			byName[k.Env] = k
			known = append(known, k.Env)
		}
	}
	child := slices.ContainsFunc(givenByMaster(), func(name string) bool { return vars[name] != "" })
	for name, value := range vars {
		k, ok := byName[name]
		switch {
		case !strings.HasPrefix(name, envPrefix) || value == "":
		case child && name == envName("service"):
		case ok:
			e.values[k.Path] = override{name: name, text: value}
		case !slices.Contains(notKeys(), name):
			if w := likelyKey(name, known, s); w != "" {
				e.warnings = append(e.warnings, w)
			}
		}
	}
	slices.Sort(e.warnings)
	return e
}

// likelyKey warns of a variable that looks as if it were to override a key;
// empty for one that looks like somebody's own.
func likelyKey(name string, known []string, s schema) string {
	if len(name) > maxWord {
		return ""
	}
	if k := slices.IndexFunc(s.keys, func(k Key) bool { return envName(k.Path) == name }); k >= 0 {
		return fmt.Sprintf("%s is ignored: only single values can be overridden by the environment, and %s is not one", name, s.keys[k].Path)
	}
	if near := nearest(name, known); near != "" && distance(name, near) <= 2 {
		return fmt.Sprintf("%s is ignored: no key has that name; did you mean %s?", name, near)
	}
	for _, k := range s.children[""] {
		if (k.Type == Section || k.Type == List) && strings.HasPrefix(name, envName(k.Path)+"_") {
			return fmt.Sprintf("%s is ignored: no key has that name", name)
		}
	}
	return ""
}
