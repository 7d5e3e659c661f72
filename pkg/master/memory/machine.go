package memory

import "github.com/masterd/masterd/pkg/master/rollout"

const (
	pressureLimit = 64 << 20 // bytes; less available is pressure,
	pressureShare = 16       // but on small machines only less than 1/16 of all there is
)

// Machine is where to look. The zero value is this one.
type Machine struct {
	Proc string // of the proc file system; empty: /proc
	Root string // put before the mount points named in mountinfo; empty: none
}

// Look looks at this machine: what is available, and the largest of the workers,
// each the pids of its processes. Pids that are gone are left out.
func Look(workers [][]int) rollout.Memory { return Machine{}.Look(workers) }

// Pressure reports whether this machine, or the cgroup the master is in, is
// about to run out of memory, with the figures.
func Pressure() (bool, string) { return Machine{}.Pressure() }

// Usage is a process's resident memory in bytes and its number of open
// descriptors; zero for what cannot be read. It is cheap.
func Usage(pid int) (rss int64, fds int) { return Machine{}.Usage(pid) }

// MostProcesses is how many processes and threads this process, and those in its cgroups,
// can have at the most; zero: it is not known.
func MostProcesses() uint64 { return Machine{}.MostProcesses() }

// ProcessesForUser is how many processes and threads a user may have so that this
// process has room for its own. Zero: that cannot be said. In a container it cannot, and
// not of a user who has processes outside of this one's cgroup: the kernel counts them, too.
func ProcessesForUser(uid int) uint64 { return Machine{}.ProcessesForUser(uid) }
