package sweep

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/masterd/masterd/pkg/master/process"
)

// Group is the control group of a unit, as /proc/PID/cgroup has it.
type Group struct{ path string }

const serviceSuffix = ".service"

// UnitGroup is the control group of a unit whose path systemd has told.
func UnitGroup(path string) (Group, error) {
	path, err := ofUnit(path)
	return Group{path}, err
}

// OwnGroup finds the unit's group in the text of /proc/self/cgroup. It is an
// error to be in none: the processes of a login session, or of a container, are
// not ours to end.
func OwnGroup(text string) (Group, error) {
	for names, path := range process.Cgroups(text) {
		if path, err := ofUnit(path); systemds(names) && err == nil {
			return Group{path}, nil
		}
	}
	return Group{}, fmt.Errorf("this process is in no service's control group: %s",
		strings.Join(strings.Fields(text), " "))
}

func (g Group) String() string { return g.path }

// has tells whether a process, whose /proc/PID/cgroup is text, is in the group
// or below it, or in the scope of one of its workers.
func (g Group) has(text string) bool {
	for names, path := range process.Cgroups(text) {
		if !systemds(names) {
			continue
		}
		if path == g.path || strings.HasPrefix(path, g.path+"/") {
			return true
		}
		// A worker with limits is in a scope beside its unit, named after it.
		dir, unit := filepath.Split(strings.TrimSuffix(g.path, serviceSuffix))
		rest, ours := strings.CutPrefix(path, dir+strings.ReplaceAll(unit, "@", ":")+"-worker-")
		number, below, scope := strings.Cut(rest, ".scope")
		if _, err := strconv.ParseUint(number, 10, 64); ours && scope && err == nil && (below == "" || below[0] == '/') {
			return true
		}
	}
	return false
}

// systemds tells whether systemd keeps its units in a hierarchy: in the unified one, and
// in its own where the others are still of version 1.
func systemds(names string) bool { return names == "" || names == "name=systemd" }

// ofUnit cuts a path off below its service: systemd may put commands of a unit,
// and a worker its own children, into groups beneath.
func ofUnit(path string) (string, error) {
	parts := strings.Split(path, "/")
	for i := len(parts) - 1; i > 0; i-- {
		if strings.HasSuffix(parts[i], serviceSuffix) {
			return strings.Join(parts[:i+1], "/"), nil
		}
	}
	return "", fmt.Errorf("%q is no service's control group", path)
}
