package metrics

import "github.com/prometheus/procfs"

// listenOverflows are the kernel's counters of this network namespace: ListenOverflows and
// ListenDrops of proc_pid_netstat(5).
func listenOverflows() (overflows, drops float64, ok bool) {
	self, err := procfs.Self()
	if err != nil {
		return 0, 0, false
	}
	n, err := self.Netstat()
	if err != nil || n.ListenOverflows == nil || n.ListenDrops == nil {
		return 0, 0, false
	}
	return *n.ListenOverflows, *n.ListenDrops, true
}
