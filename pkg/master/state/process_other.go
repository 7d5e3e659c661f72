//go:build !linux

package state

import "syscall"

// started cannot tell a reused pid here; being alive must do.
func started(pid int) (begun string, ok bool) {
	return "-", syscall.Kill(pid, 0) == nil
}

func commandOf(pid int) string { return "" }
