package sweep

import (
	"fmt"
	"strings"
)

// Group is the control group of a unit, as /proc/PID/cgroup has it.
type Group struct{ path string }

// UnitGroup is the control group of a unit whose path systemd has told.
func UnitGroup(path string) (Group, error) {
	path, err := ofUnit(path)
	return Group{path}, err
}

// OwnGroup finds the unit's group in the text of /proc/self/cgroup. It is an
// error to be in none: the processes of a login session, or of a container, are
// not ours to end.
func OwnGroup(text string) (Group, error) {
	for line := range strings.Lines(text) {
		if path, err := ofUnit(systemds(line)); err == nil {
			return Group{path}, nil
		}
	}
	return Group{}, fmt.Errorf("this process is in no service's control group: %s", strings.Join(strings.Fields(text), " "))
}

func (g Group) String() string { return g.path }

// has tells whether a process, whose /proc/PID/cgroup is text, is in the group
// or below it.
func (g Group) has(text string) bool {
	for line := range strings.Lines(text) {
		if path := systemds(line); path == g.path || strings.HasPrefix(path, g.path+"/") {
			return true
		}
	}
	return false
}

// systemds is the path in a line of the hierarchies that systemd keeps its units
// in: the unified one, and its own where the others are still of version 1.
// Empty: the line is of another.
func systemds(line string) (path string) {
	_, rest, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ":")
	hierarchy, path, _ := strings.Cut(rest, ":")
	if hierarchy != "" && hierarchy != "name=systemd" {
		return ""
	}
	return path
}

// ofUnit cuts a path off below its service: systemd may put commands of a unit,
// and a worker its own children, into groups beneath.
func ofUnit(path string) (string, error) {
	parts := strings.Split(path, "/")
	for i := len(parts) - 1; i > 0; i-- {
		if strings.HasSuffix(parts[i], ".service") {
			return strings.Join(parts[:i+1], "/"), nil
		}
	}
	return "", fmt.Errorf("%q is no service's control group", path)
}
