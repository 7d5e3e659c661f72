package config

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
)

// MayRun says why somebody who is neither root nor the master's own user may not have
// a program run instead of the configured one. It is the same for one that is not
// there: where that user may not look, the answer says nothing.
func (c *Config) MayRun(program string) error {
	program = filepath.Clean(program)
	configured := ""
	if len(c.Worker.Command) > 0 {
		configured = c.Worker.Command[0]
	}
	if program == configured {
		return nil
	}
	allowed := c.Versions.Allow
	if len(allowed) == 0 && configured != "" && !ofTheSystem(filepath.Dir(configured)) {
		allowed = []string{filepath.Dir(configured)}
	}
	var real []string
	for _, dir := range allowed {
		if r, err := filepath.EvalSymlinks(dir); err == nil {
			real = append(real, r)
		}
	}
	if within(program, slices.Concat(allowed, real)) {
		if r, err := filepath.EvalSymlinks(program); err == nil && within(r, real) {
			return nil
		}
	}
	where := "in none of the directories that versions.allow names: " + strings.Join(allowed, ", ")
	if len(allowed) == 0 {
		where = "not the configured one, and versions.allow names no directory for others"
	}
	return fmt.Errorf("the program %s is %s; root and the master's own user may run any", short(program), where)
}

// within tells whether a path is below one of the directories.
func within(path string, dirs []string) bool {
	return slices.ContainsFunc(dirs, func(dir string) bool {
		return dir == "/" || strings.HasPrefix(path, dir+"/")
	})
}

// ofTheSystem tells whether programs of all kinds are in a directory: with the
// arguments that are configured for one, another would do who knows what.
func ofTheSystem(dir string) bool {
	return slices.Contains([]string{"/bin", "/sbin", "/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin"}, dir)
}
