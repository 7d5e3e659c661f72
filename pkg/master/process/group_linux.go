package process

import "golang.org/x/sys/unix"

// Groups are all processes of this machine by the group that they are in. Those of
// the kernel, and of groups that this process cannot see, have the number zero, which
// is nobody's: they are left out.
func Groups() map[int][]int {
	all := map[int][]int{}
	for pid := range All() {
		if group, err := unix.Getpgid(pid); err == nil && group > 0 {
			all[group] = append(all[group], pid)
		}
	}
	return all
}

// Group are the processes of the group that leader leads, or led.
func Group(leader int) []int { return Groups()[leader] }
