package contain

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/masterd/masterd/pkg/master/process"
)

// Workers are the workers of one service. Its methods may be called from any goroutine.
type Workers struct {
	opt      Options
	group    string   // where workers get their cgroups; empty: there is none
	why      string   // why there is none
	scopes   scopes   // where workers with limits get theirs
	earlier  []string // cgroups of earlier masters that are neither
	children map[int]string
	kill     func(pid int, begun string) error // [process.KillNamed]
}

// Open finds out how workers can be kept together. Without cgroups it has the kernel
// give this process the orphans of its workers.
func Open(o Options) *Workers {
	w := &Workers{opt: o, kill: process.KillNamed, scopes: scopesFor(name(o.RuntimeDir))}
	group, err := serviceGroup(name(o.RuntimeDir))
	if err != nil {
		w.why = err.Error()
	} else {
		w.group = group
	}
	for _, dir := range o.Before {
		// One that nobody is in any more is not remembered for ever.
		if !slices.Contains(w.groups(), dir) && inUse(dir) && len(w.earlier) < maxEarlier {
			w.earlier = append(w.earlier, dir)
		}
	}
	orphans := uintptr(0)
	if w.group == "" {
		orphans = 1
		w.children = children() // those of whoever was this process before its exec
	}
	_ = unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, orphans, 0, 0, 0)
	return w
}

// Clean removes the cgroup that a killed master of a service has left, if it was started
// from this process's cgroup and nobody is in it. It reports whether there was one.
func Clean(runtimeDir string) (was bool, err error) {
	own, err := ownGroup()
	if err != nil {
		return false, nil
	}
	dir := filepath.Join(own, name(runtimeDir))
	return isGroup(dir), removeGroup(dir)
}

// Cgroup is the directory of the service's cgroup; empty: there is none.
func (w *Workers) Cgroup() string { return w.group }

// Cgroups are those in which workers may be: that in use first, and those of earlier masters
// that were started elsewhere; of scopes it is what their paths begin with. The next
// master is to look into all of them. None is looked into here: the master's loop asks.
func (w *Workers) Cgroups() []string { return w.groups() }

// Why says why there is no cgroup.
func (w *Workers) Why() string { return w.why }

// Place makes the cgroup of a worker that is to be started, and opens it. The caller
// closes the descriptor. -1: there are no cgroups.
func (w *Workers) Place(worker uint64) (fd int, err error) {
	if w.group == "" {
		return -1, nil
	}
	dir := groupOf(w.group, worker)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return -1, fmt.Errorf("make a cgroup for worker %d: %w", worker, err)
	}
	fd, err = unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open the cgroup of worker %d: %w", worker, os.NewSyscallError("open", err))
	}
	return fd, nil
}

// Processes are those of a worker; nil: it has no cgroup, or nobody is in it.
func (w *Workers) Processes(worker uint64) []int {
	for _, dir := range w.of(worker) {
		if pids := members(dir); len(pids) > 0 {
			return pids
		}
	}
	return nil
}

// Of is the worker in whose cgroup a process is. What the process says of itself does not
// count: programs write over the environment that they were started with.
func (w *Workers) Of(pid int) (worker uint64, ok bool) {
	for _, g := range w.groups() {
		for id, dir := range workersBelow(g) {
			if slices.Contains(members(dir), pid) {
				return id, true
			}
		}
	}
	return 0, false
}

// Left are the workers in whose cgroups processes are. Cgroups that are empty are
// removed.
func (w *Workers) Left() (workers []uint64) {
	for _, g := range w.groups() {
		for id, dir := range workersBelow(g) {
			if removeGroup(dir) != nil {
				workers = append(workers, id)
			}
		}
	}
	slices.Sort(workers)
	return slices.Compact(workers)
}

// End kills everything that a worker has started and waits until it is gone. It
// returns some of what it killed. Who has a cgroup is looked for elsewhere, too: su and
// systemd-run move a process to one of their own.
func (w *Workers) End(worker Worker) (ended []int, err error) {
	for _, dir := range w.of(worker.ID) {
		if isGroup(dir) {
			pids, e := endGroup(dir)
			ended, err = append(ended, pids...), errors.Join(err, e)
		}
	}
	found, e := w.endFound(func(all table) []int { return all.of(worker, w.marker()) })
	return append(ended, found...), errors.Join(err, e)
}

// EndAll kills everything that any worker of the service has started, and removes
// the service's cgroup. Without cgroups that includes this process's children but
// for those in spare and what operators' programs have left running.
func (w *Workers) EndAll(spare ...int) (ended []int, err error) {
	for _, g := range w.groups() {
		for _, dir := range partsOf(g) {
			pids, e := endGroup(dir)
			ended = append(ended, pids...)
			if e != nil {
				err = e
			}
		}
	}
	found, e := w.endFound(func(all table) []int {
		pids := all.marked(w.marker())
		if w.group == "" {
			pids = append(pids, slices.DeleteFunc(all.childrenBut(w.children, spare), w.operators())...)
		}
		return all.withOffspring(pids)
	})
	if e != nil {
		err = e
	}
	return append(ended, found...), err
}

// Remove removes the cgroup of a worker that did not come to be in it.
func (w *Workers) Remove(worker uint64) {
	if w.group != "" {
		_ = removeGroup(groupOf(w.group, worker)) // it stays if somebody is in it, and is ended with the rest
	}
}

// Close removes the service's cgroup if nobody is in it.
func (w *Workers) Close() {
	for _, g := range w.groups() {
		if len(members(g)) == 0 {
			_ = removeGroup(g)
		}
	}
}

// groups are the service's cgroups, those in use first.
func (w *Workers) groups() (all []string) {
	for _, g := range []string{w.group, w.scopes.base} {
		if g != "" {
			all = append(all, g)
		}
	}
	return append(all, w.earlier...)
}

// of are where a worker's cgroup may be.
func (w *Workers) of(worker uint64) (dirs []string) {
	for _, g := range w.groups() {
		dirs = append(dirs, groupOf(g, worker), scopeOf(g, worker))
	}
	return dirs
}
