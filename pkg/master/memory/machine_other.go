//go:build !linux

package memory

import "github.com/masterd/masterd/pkg/master/rollout"

// Look knows nothing here; that is never a reason to refuse.
func (m Machine) Look([][]int) rollout.Memory { return rollout.Memory{} }

// Pressure is never found here.
func (m Machine) Pressure() (bool, string) { return false, "" }

// Usage is not known here.
func (m Machine) Usage(int) (rss int64, fds int) { return 0, 0 }

// MostProcesses is not known here.
func (m Machine) MostProcesses() uint64 { return 0 }

// ProcessesForUser is not known here.
func (m Machine) ProcessesForUser(int) uint64 { return 0 }
