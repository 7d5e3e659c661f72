package memory

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"github.com/dustin/go-humanize"
	"github.com/prometheus/procfs"

	"github.com/masterd/masterd/pkg/master/rollout"
)

func (m Machine) proc() string { return cmp.Or(m.Proc, procfs.DefaultMountPoint) }

// Look is [Look] on this machine.
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

// Pressure is [Pressure] on this machine.
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

// Usage is [Usage] on this machine.
func (m Machine) Usage(pid int) (rss int64, fds int) {
	dir := filepath.Join(m.proc(), strconv.Itoa(pid))
	if text, err := os.ReadFile(filepath.Join(dir, "statm")); err == nil {
		var size, resident int64
		if n, _ := fmt.Sscan(string(text), &size, &resident); n == 2 {
			rss = resident * int64(os.Getpagesize())
		}
	}
	return rss, descriptors(filepath.Join(dir, "fd"))
}

func descriptors(dir string) int {
	info, err := os.Stat(dir)
	if err != nil {
		return 0
	}
	if n := info.Size(); n > 0 && onProc(dir) { // since Linux 6.2 the size is the number
		return int(n)
	}
	f, err := os.Open(dir)
	if err != nil {
		return 0
	}
	defer f.Close()
	names, _ := f.Readdirnames(-1)
	return len(names)
}
