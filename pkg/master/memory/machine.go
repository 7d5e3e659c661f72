package memory

import "time"

// clockTicks are the units to a second in which the kernel tells times of processes: USER_HZ.
const clockTicks = 100

const (
	pressureLimit = 64 << 20 // bytes; less available is pressure,
	pressureShare = 16       // but on small machines only less than 1/16 of all there is
)

// Usage is what a process uses.
type Usage struct {
	RSS    int64 // bytes that are resident
	FDs    int
	MaxFDs uint64        // descriptors that it may have (RLIMIT_NOFILE)
	CPU    time.Duration // with that of the children that it has waited for
}

// Machine is where to look. The zero value is this one.
type Machine struct {
	Proc string // of the proc file system; empty: /proc
	Root string // put before the mount points named in mountinfo; empty: none
}
