package config

import (
	"slices"
	"strings"
	"sync"
)

// Type is the form of a key's value in the file.
type Type string

// Types. Each says what is accepted; everything else is a problem.
const (
	Section   Type = "section"           // more keys
	List      Type = "list of sections"  // a list whose items have the same keys
	Text      Type = "text"              // one line of text; numbers are taken as written
	Path      Type = "path"              // text; a relative one is relative to the configuration file
	Paths     Type = "list of paths"     // at most maxItems
	Words     Type = "list of text"      // at most maxItems
	Integer   Type = "integer"           // decimal
	Boolean   Type = "true or false"     // and no other spelling
	Duration  Type = "duration"          // "200ms", "5m", "1h30m"; 0 needs no unit
	Size      Type = "size"              // "128MiB", "1.5GB"; 0 needs no unit
	Rate      Type = "rate"              // a size per second: "1MiB/s"
	Percent   Type = "percentage"        // "5%", at most two decimals
	Decimal   Type = "number"            // "1.5"
	Arguments Type = "argument list"     // a program and its arguments, without a shell
	Hooked    Type = "argument lists"    // a list of argument lists; one list of text is one of them
	Variables Type = "names and values"  // a mapping whose names keep their case
	Statuses  Type = "HTTP status codes" // 200, "200-299", or a list of these
)

// Key describes one key of the configuration file. The list of them ([Keys]) is
// what the strict decoder knows, what the manual page says and what
// configs/full.yaml shows, so that the three cannot disagree.
type Key struct {
	Path    string   // dotted; "listeners[].name" is a key of each item of a list
	Type    Type     //
	Default string   // as it would be written in the file; empty: Meaning says what holds then
	Unit    string   // of an Integer: "bytes", "requests"; empty: a plain number or none
	Since   string   // version of masterd that knew it first
	Meaning string   // whole sentences
	Allowed []string // of a Text: the only values; of a Section: words that may stand in its place
	Min     string   // smallest value, as it would be written; empty: none
	Max     string   // greatest value
	// Versioned: each version keeps its own, since it says how its program is spoken to, checked and
	// ended, and a rollback brings it back. Of all other keys a rollback leaves today's in force: they
	// belong to the service, or to its safety.
	Versioned bool
	Restart   bool   // a change takes effect only when the master is restarted
	Env       string // environment variable that overrides it; empty: none does
	Example   string // shown in configs/full.yaml where there is no default to show
	Off       bool   // shown there as a comment only: it excludes another key, or would change what the defaults do
}

// Name is the last part of the path: what is written in the file.
func (k Key) Name() string { return k.Path[strings.LastIndexByte(k.Path, '.')+1:] }

// parent is the path of the section or list that the key is in; empty at the top.
func (k Key) parent() string {
	i := strings.LastIndexByte(k.Path, '.')
	if i < 0 {
		return ""
	}
	return strings.TrimSuffix(k.Path[:i], "[]")
}

// scalar tells whether the value is one word, which the environment may override.
func (k Key) scalar() bool {
	switch k.Type {
	case Text, Path, Integer, Boolean, Duration, Size, Rate, Percent, Decimal, Statuses:
		return true
	}
	return false
}

// merged tells whether viper decides between file, environment and default.
// Items of lists have no place there: they come from the file alone.
func (k Key) merged() bool { return k.scalar() && !strings.Contains(k.Path, "[]") }

// envPrefix begins the name of every environment variable that is masterd's.
const envPrefix = "MASTERD_"

// envName is the variable that overrides a scalar.
func envName(path string) string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(path, ".", "_"))
}

// schema is Keys with what the decoder asks of it.
type schema struct {
	keys     []Key
	byPath   map[string]Key
	children map[string][]Key // by the path of the section or list; "" is the top
}

// newSchema gives the schema, which is made once: nobody changes it, and each status reads the
// configuration anew.
var newSchema = sync.OnceValue(func() schema {
	s := schema{keys: Keys(), byPath: map[string]Key{}, children: map[string][]Key{}}
	for _, k := range s.keys {
		s.byPath[k.Path] = k
		s.children[k.parent()] = append(s.children[k.parent()], k)
	}
	return s
})

// child finds a key of a section by its name.
func (s schema) child(section, name string) (Key, bool) {
	kids := s.children[section]
	i := slices.IndexFunc(kids, func(k Key) bool { return k.Name() == name })
	if i < 0 {
		return Key{}, false
	}
	return kids[i], true
}

// required tells whether a key must be given.
func required(k Key) bool {
	switch k.Path {
	case "service", "worker.command", "listeners[].name", "listeners[].address", stepsPath + "[].weight", measuresPath + "[].name":
		return true
	}
	return false
}
