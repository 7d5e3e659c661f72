package main

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// steal takes a descriptor of its parent's, which is the master: it has the listeners.
func steal() string {
	pidfd, err := unix.PidfdOpen(os.Getppid(), 0)
	if err != nil {
		return err.Error()
	}
	defer unix.Close(pidfd)
	fd, err := unix.PidfdGetfd(pidfd, 0, 0)
	if err != nil {
		return err.Error()
	}
	defer unix.Close(fd)
	return fmt.Sprintf("taken from process %d", os.Getppid())
}
