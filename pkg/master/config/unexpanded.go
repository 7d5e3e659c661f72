package config

import (
	"fmt"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
)

// maxUnexpanded is how many values with variables in them are told of.
const maxUnexpanded = 8

// variableForm is what looks like a variable that somebody should put a value for.
var variableForm = regexp.MustCompile(`\$\{[A-Za-z_][A-Za-z0-9_]*`)

// unexpanded warns of values in which a variable stands as if it were expanded. It is not:
// what is run must not change with the environment of whoever starts the master.
func (b *builder) unexpanded(c *Config) (warnings []string) {
	look := func(path, value string) {
		if v := variableForm.FindString(value); v != "" && len(warnings) < maxUnexpanded {
			warnings = append(warnings, fmt.Sprintf("%s: %s is not expanded, masterd takes values as they are written; write the value, "+
				"or have the program read the variable (worker.env, worker.env_files)", path, v+"}"))
		}
	}
	words := func(path string, words []string) {
		if len(words) > 0 && shell(words[0]) {
			return // which expands them itself
		}
		for i, w := range words {
			look(fmt.Sprintf("%s[%d]", path, i), w)
		}
	}
	for _, f := range b.schema.fields(c) {
		switch p := f.ptr.(type) {
		case *string:
			look(f.path, *p)
		case *[]string:
			words(f.path, *p)
		case *[][]string:
			for i, list := range *p {
				words(fmt.Sprintf("%s[%d]", f.path, i), list)
			}
		case *map[string]string:
			for _, name := range slices.Sorted(maps.Keys(*p)) {
				look(f.path+"."+name, (*p)[name])
			}
		}
	}
	return warnings
}

// shell reports whether a program is one.
func shell(program string) bool {
	switch filepath.Base(program) {
	case "sh", "bash", "dash", "zsh", "ksh", "busybox":
		return true
	}
	return false
}
