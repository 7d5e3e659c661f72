package memory

import (
	"bufio"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/prometheus/procfs"
	"golang.org/x/sys/unix"
)

// free is what one of the bounds above us leaves. Bytes.
type free struct {
	available uint64
	total     uint64
	where     string // "the machine", "the cgroup /system.slice/shop.service"
}

// controller says which files a version of the cgroup file system has.
type controller struct {
	name      string
	version   int
	limits    []string // of which the smallest counts; "max" or a very large number: none
	usage     string
	cacheLine string // in memory.stat: page cache that is given back when wanted
}

const (
	memoryName = "memory"
	pidsName   = "pids"
)

func controllers() []controller {
	return []controller{
		{memoryName, 2, []string{"memory.max", "memory.high"}, "memory.current", "inactive_file"},
		{memoryName, 1, []string{"memory.limit_in_bytes"}, "memory.usage_in_bytes", "total_inactive_file"},
	}
}

// least is the tightest of all bounds: the machine's, and each cgroup's from
// ours up to the root. False if not even the machine's could be read.
func (m Machine) least() (free, bool) {
	fs, err := procfs.NewFS(m.proc())
	if err != nil {
		return free{}, false
	}
	info, err := fs.Meminfo()
	if err != nil || info.MemAvailableBytes == nil {
		return free{}, false
	}
	best := free{available: *info.MemAvailableBytes, where: "the machine"}
	if info.MemTotalBytes != nil {
		best.total = *info.MemTotalBytes
	}
	for _, f := range m.cgroups(fs) {
		if f.available < best.available {
			best = f
		}
	}
	return best, true
}

// cgroups are the bounds of the cgroups that this process is in.
func (m Machine) cgroups(fs procfs.FS) (found []free) {
	for _, c := range controllers() {
		m.walk(fs, c, func(dir, name string) {
			if f, ok := c.read(dir); ok {
				f.where = "the cgroup " + name
				found = append(found, f)
			}
		})
	}
	return found
}

// walk visits the cgroups that this process is in, from its own up.
func (m Machine) walk(fs procfs.FS, c controller, visit func(dir, name string)) {
	self, err := fs.Self()
	if err != nil {
		return
	}
	ours, err := self.Cgroups()
	if err != nil {
		return
	}
	mounts, err := fs.GetProcMounts(self.PID)
	if err != nil {
		return
	}
	path, ok := c.of(ours)
	if !ok {
		return
	}
	for _, mount := range mounts {
		if !c.on(mount) {
			continue
		}
		// In a container the mount may show only a part of the hierarchy,
		// while our path is told from its root.
		rel, err := filepath.Rel(mount.Root, path)
		if err != nil || strings.HasPrefix(rel, "..") {
			rel = "."
		}
		for ; ; rel = filepath.Dir(rel) {
			visit(filepath.Join(m.Root, mount.MountPoint, rel), filepath.Join(mount.Root, rel))
			if rel == "." {
				return
			}
		}
	}
}

const (
	// processShare is what a worker's user may have of the processes that bound the
	// master: the rest is left to the master, the keeper and the operator's programs.
	processShare = 7.0 / 8
	// firstPIDs names the machine's own namespace of process ids (PROC_PID_INIT_INO of
	// the kernel). In others, as a container's, not all of a user's processes are seen.
	firstPIDs = "pid:[4026531836]"
)

// MostProcesses is how many processes and threads this process, and those in its cgroups,
// can have at the most; zero: it is not known.
func (m Machine) MostProcesses() (least uint64) {
	bound := func(path string) {
		if n, ok := number(path); ok && (least == 0 || n < least) {
			least = n
		}
	}
	bound(filepath.Join(m.proc(), "sys/kernel/threads-max"))
	bound(filepath.Join(m.proc(), "sys/kernel/pid_max"))
	if fs, err := procfs.NewFS(m.proc()); err == nil {
		for version := 1; version <= 2; version++ {
			c := controller{name: pidsName, version: version}
			m.walk(fs, c, func(dir, _ string) { bound(filepath.Join(dir, "pids.max")) })
		}
	}
	return least
}

// ProcessesForUser is how many processes and threads a user may have so that this
// process has room for its own. Zero: that cannot be said. In a container it cannot, and
// not of a user who has processes outside of this one's cgroup: the kernel counts them, too.
func (m Machine) ProcessesForUser(uid int) uint64 {
	if ns, err := os.Readlink(filepath.Join(m.proc(), "self/ns/pid")); err == nil && ns != firstPIDs || m.elsewhere(uid) {
		return 0
	}
	n := uint64(float64(m.MostProcesses()) * processShare)
	var own unix.Rlimit
	if m.Root != "" || unix.Getrlimit(unix.RLIMIT_NPROC, &own) != nil || own.Cur == unix.RLIM_INFINITY {
		return n
	}
	if os.Geteuid() != 0 { // it binds this process, too
		own.Cur = uint64(float64(own.Cur) * processShare)
	}
	return min(n, own.Cur)
}

// elsewhere tells whether a user has processes outside of our cgroup, as those of another
// instance are.
func (m Machine) elsewhere(uid int) bool {
	fs, err := procfs.NewFS(m.proc())
	if err != nil {
		return false
	}
	place := func(p procfs.Proc) (string, bool) {
		all, err := p.Cgroups()
		if err != nil {
			return "", false
		}
		for version := 1; version <= 2; version++ {
			if path, ok := (controller{name: pidsName, version: version}).of(all); ok {
				return path, true
			}
		}
		return "", false
	}
	self, err := fs.Self()
	if err != nil {
		return false
	}
	ours, ok := place(self)
	if !ok {
		return false
	}
	all, _ := fs.AllProcs()
	for _, p := range all {
		status, err := p.NewStatus()
		if err != nil || status.UIDs[0] != uint64(uid) {
			continue
		}
		if theirs, ok := place(p); ok && theirs != ours && !strings.HasPrefix(theirs, strings.TrimSuffix(ours, "/")+"/") {
			return true
		}
	}
	return false
}

// of finds our path in this version's hierarchy.
func (c controller) of(ours []procfs.Cgroup) (string, bool) {
	for _, cg := range ours {
		if c.version == 2 && cg.HierarchyID == 0 {
			return cg.Path, true
		}
		for _, name := range cg.Controllers {
			if c.version == 1 && name == c.name {
				return cg.Path, true
			}
		}
	}
	return "", false
}

func (c controller) on(mount *procfs.MountInfo) bool {
	if c.version == 2 {
		return mount.FSType == "cgroup2"
	}
	_, ours := mount.SuperOptions[c.name]
	return mount.FSType == "cgroup" && ours
}

// read is one cgroup's bound; false when it has none.
func (c controller) read(dir string) (free, bool) {
	limit, bounded := uint64(0), false
	for _, name := range c.limits {
		if n, ok := number(filepath.Join(dir, name)); ok && (!bounded || n < limit) {
			limit, bounded = n, true
		}
	}
	usage, ok := number(filepath.Join(dir, c.usage))
	if !bounded || !ok {
		return free{}, false
	}
	usage -= min(usage, c.cache(dir))
	return free{available: limit - min(limit, usage), total: limit}, true
}

func (c controller) cache(dir string) uint64 {
	f, err := os.Open(filepath.Join(dir, "memory.stat"))
	if err != nil {
		return 0
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if key, value, _ := strings.Cut(lines.Text(), " "); key == c.cacheLine {
			n, _ := strconv.ParseUint(value, 10, 64)
			return n
		}
	}
	return 0
}

// number reads a file with one; "max" is none.
func number(path string) (uint64, bool) {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, false
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64)
	return n, err == nil
}
