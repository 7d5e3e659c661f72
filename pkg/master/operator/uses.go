package operator

import (
	"fmt"
	"io/fs"
	"maps"
	"os"
	"sync"
	"time"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/pkg/master/memory"
	"github.com/masterd/masterd/pkg/master/version"
)

// useShare is how long what a worker uses is not looked at again, in times of what the
// look took: one with thousands of processes keeps nobody busy who asks for the status.
const useShare = 10

// uses are what workers use, by worker.
type uses struct {
	mu   sync.Mutex
	last map[uint64]used
}

type used struct {
	memory.Usage           // of all processes; MaxFDs: the least that one may have
	until        time.Time // it is not looked at again before
	processes    int
	ratio        float64 // of descriptors to their limit, in the process where it is the most
	stray        int     // a process that does not run its version's program; zero: there is none
}

// of adds up what a worker's processes use, and returns one that is a stray. Others who ask
// wait for that, and get the same.
func (u *uses) of(w *api.Worker, processes func() []int, usage func(pid int) used) (stray int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	begun := time.Now()
	maps.DeleteFunc(u.last, func(_ uint64, l used) bool { return !begun.Before(l.until) })
	l, known := u.last[w.ID]
	if !known {
		pids := processes()
		l.processes = len(pids)
		for _, pid := range pids {
			its := usage(pid)
			l.RSS += its.RSS
			l.FDs += its.FDs
			l.CPU += its.CPU
			if l.MaxFDs == 0 || its.MaxFDs > 0 && its.MaxFDs < l.MaxFDs {
				l.MaxFDs = its.MaxFDs
			}
			if its.MaxFDs > 0 {
				l.ratio = max(l.ratio, float64(its.FDs)/float64(its.MaxFDs))
			}
			l.stray = max(l.stray, its.stray)
		}
		l.until = time.Now().Add(useShare * time.Since(begun))
		if u.last == nil {
			u.last = map[uint64]used{}
		}
		u.last[w.ID] = l
	}
	w.Processes, w.RSS, w.FDs, w.FDLimit, w.CPUSeconds = l.processes, l.RSS, l.FDs, l.MaxFDs, l.CPU.Seconds()
	w.FDRatio = l.ratio
	return l.stray
}

// changed is the file at the path of a version's program, if it is not that program any more;
// nil: it is, or is not known not to be.
func (b *Backend) changed(v version.Version) fs.FileInfo {
	if v.Program == "" || v.Digest == "" {
		return nil
	}
	if digest, err := b.Store.FileDigest(b.Loop.Life(), v.Program); err != nil || digest == v.Digest {
		return nil
	}
	file, err := os.Stat(v.Program)
	if err != nil {
		return nil
	}
	return file
}

// strayed is a worker's process that runs what has taken the place of its program on disk:
// the program runs itself again by its path, which pins nothing. Zero: it does not.
func strayed(pid int, changed fs.FileInfo) int {
	if changed == nil {
		return 0
	}
	if runs, err := os.Stat(fmt.Sprintf("/proc/%d/exe", pid)); err != nil || !os.SameFile(runs, changed) {
		return 0
	}
	return pid
}

func sayStray(pid int, worker uint64, v version.Version) string {
	return fmt.Sprintf("Process %d of worker %d runs %s as it is on disk now, and not %s: the program runs itself again "+
		"by its path. Have it run /proc/self/exe, or deploy each version to a path of its own; `masterd reload` brings "+
		"all to what is on disk.", pid, worker, v.Program, v)
}
