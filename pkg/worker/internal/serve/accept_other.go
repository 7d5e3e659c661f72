//go:build !linux

package serve

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// acceptNow accepts one connection from a non-blocking socket, or says EAGAIN.
func acceptNow(fd int) (int, error) {
	syscall.ForkLock.RLock() // no fork between accept and close-on-exec
	defer syscall.ForkLock.RUnlock()
	c, _, err := unix.Accept(fd)
	if err == nil {
		syscall.CloseOnExec(c)
	}
	return c, err
}

// reenter is for sockets that systemd shares.
func reenter() {}
