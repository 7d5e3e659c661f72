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
	version   int
	limits    []string // of which the smallest counts; "max" or a very large number: none
	usage     string
	cacheLine string // in memory.stat: page cache that is given back when wanted
}

func controllers() []controller {
	return []controller{
		{2, []string{"memory.max", "memory.high"}, "memory.current", "inactive_file"},
		{1, []string{"memory.limit_in_bytes"}, "memory.usage_in_bytes", "total_inactive_file"},
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
	self, err := fs.Self()
	if err != nil {
		return nil
	}
	ours, err := self.Cgroups()
	if err != nil {
		return nil
	}
	mounts, err := fs.GetProcMounts(self.PID)
	if err != nil {
		return nil
	}
	for _, c := range controllers() {
		path, ok := c.of(ours)
		if !ok {
			continue
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
				if f, ok := c.read(filepath.Join(m.Root, mount.MountPoint, rel)); ok {
					f.where = "the cgroup " + filepath.Join(mount.Root, rel)
					found = append(found, f)
				}
				if rel == "." {
					break
				}
			}
			break
		}
	}
	return found
}

// of finds our path in this version's hierarchy.
func (c controller) of(ours []procfs.Cgroup) (string, bool) {
	for _, cg := range ours {
		if c.version == 2 && cg.HierarchyID == 0 {
			return cg.Path, true
		}
		for _, name := range cg.Controllers {
			if c.version == 1 && name == "memory" {
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
	_, memory := mount.SuperOptions["memory"]
	return mount.FSType == "cgroup" && memory
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

func onProc(path string) bool {
	var st unix.Statfs_t
	return unix.Statfs(path, &st) == nil && st.Type == unix.PROC_SUPER_MAGIC
}
