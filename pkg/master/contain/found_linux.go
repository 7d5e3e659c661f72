package contain

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"time"

	"github.com/masterd/masterd/pkg/master/process"
)

// table is every process of the machine but this one, by number.
type table map[int]process.Status

func look() table {
	all := table(process.Living())
	delete(all, os.Getpid())
	return all
}

// children are this process's, with their starts.
func children() map[int]string {
	all := map[int]string{}
	for pid, f := range look() {
		if f.Parent == os.Getpid() {
			all[pid] = f.Begun
		}
	}
	return all
}

// marker tells the workers' processes by what they were started with, and by which
// directory that means to them. It is for one look at all processes.
func (w *Workers) marker() func(pid int) (worker uint64, ok bool) {
	var environs process.Environs
	return func(pid int) (uint64, bool) {
		id, ok := w.opt.Marked(environs.Of(pid))
		return id, ok && process.Sees(pid, w.opt.RuntimeDir)
	}
}

// operators tells the operator's processes from workers'. They run as this user: a
// worker with another one cannot pretend to be one of them. It is for one look, too.
func (w *Workers) operators() func(pid int) bool {
	var environs process.Environs
	return func(pid int) bool {
		return w.opt.Operators != nil && owner(pid) == fmt.Sprint(os.Geteuid()) && w.opt.Operators(environs.Of(pid))
	}
}

// of are a worker's processes: those that were started with its environment, or are
// in its session, and all that they have started.
func (t table) of(w Worker, marked func(pid int) (uint64, bool)) (pids []int) {
	leader, there := t[w.PID]
	reused := there && leader.Begun != w.Begun
	for pid, f := range t {
		if w.PID != 0 && !reused && f.Session == w.PID {
			pids = append(pids, pid)
		} else if id, ok := marked(pid); ok && id == w.ID {
			pids = append(pids, pid)
		}
	}
	return t.withOffspring(pids)
}

// marked are the processes of all workers.
func (t table) marked(marked func(pid int) (uint64, bool)) (pids []int) {
	for pid := range t {
		if _, ok := marked(pid); ok {
			pids = append(pids, pid)
		}
	}
	return pids
}

// childrenBut are this process's children that are in neither of both.
func (t table) childrenBut(known map[int]string, spare []int) (pids []int) {
	for pid, f := range t {
		if f.Parent == os.Getpid() && known[pid] != f.Begun && !slices.Contains(spare, pid) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// withOffspring adds the children of some processes, and theirs.
func (t table) withOffspring(pids []int) []int {
	all := map[int]bool{}
	for _, pid := range pids {
		all[pid] = true
	}
	for more := true; more; {
		more = false
		for pid, f := range t {
			if all[f.Parent] && !all[pid] {
				all[pid], more = true, true
			}
		}
	}
	return slices.Sorted(maps.Keys(all))
}

// endFound kills what is found, and looks again until nothing is left but what this
// user may not end; that is an error.
func (w *Workers) endFound(find func(table) []int) (ended []int, err error) {
	killed, refused := map[int]string{}, map[int]string{}
	pause := killLook
	for late := time.Now().Add(killLimit); ; time.Sleep(pause) {
		pause = min(2*pause, killLookLast) // a look reads the environment of every process
		all := look()
		left := slices.DeleteFunc(find(all), func(pid int) bool {
			return refused[pid] == all[pid].Begun && refused[pid] != ""
		})
		if len(left) > 0 && time.Now().After(late) {
			return ended, errors.Join(err, fmt.Errorf("processes %v are still there %s after KILL", left, killLimit))
		}
		waits := false
		for _, pid := range left {
			begun := all[pid].Begun
			if killed[pid] == begun {
				waits = true // it was told; the kernel takes its time
				continue
			}
			switch e := w.kill(pid, begun); {
			case e == nil:
				killed[pid], waits = begun, true
				if len(ended) < maxEnded {
					ended = append(ended, pid)
				}
			case errors.Is(e, fs.ErrPermission):
				refused[pid] = begun
				if len(refused) <= maxEnded {
					err = errors.Join(err, fmt.Errorf("process %d (user %s) may not be ended by masterd's user %d: end it by hand "+
						"(sudo kill %[1]d), or have the worker end it", pid, owner(pid), os.Geteuid()))
				}
			default:
				waits = true // gone, or not to be told; the next look says
			}
		}
		if !waits {
			return ended, err
		}
	}
}

// owner is the user of a process, for people.
func owner(pid int) string {
	uid, err := process.Owner(pid)
	if err != nil {
		return "unknown"
	}
	return fmt.Sprint(uid)
}
