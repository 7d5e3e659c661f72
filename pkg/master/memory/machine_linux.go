package memory

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/prometheus/procfs"

	"github.com/masterd/masterd/pkg/master/rollout"
)

func (m Machine) proc() string { return cmp.Or(m.Proc, procfs.DefaultMountPoint) }

// Look looks at this machine: what is available, and the largest of the workers,
// each the pids of its processes. Pids that are gone are left out.
func (m Machine) Look(workers [][]int) rollout.Memory {
	var out rollout.Memory
	if free, ok := m.least(); ok {
		out.Known, out.Available = true, free.available
	}
	fs, err := procfs.NewFS(m.proc())
	if err != nil {
		return out
	}
	for _, pids := range workers {
		worker := uint64(0)
		for _, pid := range pids {
			worker += footprint(fs, pid)
		}
		out.PerWorker = max(out.PerWorker, worker)
	}
	return out
}

// Available is how many bytes the machine, or the cgroup that the master is in, has left: the
// least. It is false where that cannot be read.
func (m Machine) Available() (bytes uint64, known bool) {
	free, ok := m.least()
	return free.available, ok
}

// footprint is what would be freed if the process alone went: its share of
// what it shares (PSS). Its resident size, which counts shared pages whole, is
// the next best.
func footprint(fs procfs.FS, pid int) uint64 {
	p, err := fs.Proc(pid)
	if err != nil {
		return 0
	}
	if maps, err := p.ProcSMapsRollup(); err == nil && maps.Pss > 0 {
		return maps.Pss
	}
	statm, err := p.Statm()
	if err != nil {
		return 0
	}
	return statm.ResidentBytes()
}

// Pressure reports whether this machine, or the cgroup the master is in, is
// about to run out of memory, with the figures.
func (m Machine) Pressure() (bool, string) {
	free, ok := m.least()
	if !ok {
		return false, ""
	}
	limit := uint64(pressureLimit)
	if free.total > 0 {
		limit = min(limit, free.total/pressureShare)
	}
	if free.available >= limit {
		return false, ""
	}
	return true, fmt.Sprintf("%s of memory available in %s, of %s",
		humanize.IBytes(free.available), free.where, humanize.IBytes(free.total))
}

// UsageOf is what a process uses; zero for what cannot be read. It is cheap.
func (m Machine) UsageOf(pid int) (u Usage) {
	fs, err := procfs.NewFS(m.proc())
	if err != nil {
		return u
	}
	p, err := fs.Proc(pid)
	if err != nil {
		return u
	}
	if stat, err := p.Stat(); err == nil {
		waited := time.Duration(max(stat.CUTime, 0)+max(stat.CSTime, 0)) * time.Second / clockTicks
		u.RSS, u.CPU = int64(stat.ResidentMemory()), time.Duration(stat.CPUTime()*float64(time.Second))+waited
	}
	u.MaxFDs = m.maxFDs(pid)
	u.FDs, _ = p.FileDescriptorsLen()
	return u
}

// maxFDs is how many descriptors a process may have; zero: as many as it likes, or it cannot be
// read. procfs reads all limits by an expression, which takes four times as long as all else here.
func (m Machine) maxFDs(pid int) uint64 {
	text, err := os.ReadFile(filepath.Join(m.proc(), strconv.Itoa(pid), "limits"))
	if err != nil {
		return 0
	}
	_, after, _ := strings.Cut(string(text), "Max open files")
	soft, _, _ := strings.Cut(strings.TrimSpace(after), " ")
	n, _ := strconv.ParseUint(soft, 10, 64)
	return n
}
