package session

import (
	"os"

	"golang.org/x/sys/unix"
)

// firstDup keeps duplicates off the standard descriptors.
const firstDup = 3

func dupFD(fd int) (int, error) {
	dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, firstDup)
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
