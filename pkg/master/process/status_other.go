//go:build !linux

package process

import "syscall"

// Begun cannot tell a reused pid here; being alive must do.
func Begun(pid int) (string, error) {
	if syscall.Kill(pid, 0) != nil {
		return "", ErrGone
	}
	return "-", nil
}
