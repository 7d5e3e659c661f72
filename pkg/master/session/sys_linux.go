package session

import (
	"os"

	"golang.org/x/sys/unix"

	"github.com/masterd/masterd/pkg/ipc/fdpass"
)

func dupFD(fd int) (int, error) {
	dup, err := fdpass.Duplicate(fd)
	return dup, os.NewSyscallError("fcntl F_DUPFD_CLOEXEC", err)
}

// processGroup is the process group of a process; -1: it is gone, or not ours to see.
func processGroup(pid int) int {
	if pid <= 0 { // zero would name our own
		return -1
	}
	group, err := unix.Getpgid(pid)
	if err != nil {
		return -1
	}
	return group
}
