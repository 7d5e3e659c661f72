//go:build linux

package workertest

import (
	"net"
	"regexp"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// Arrived waits until the client's bytes are with the server's kernel.
func Arrived(t *testing.T, c net.Conn) {
	t.Helper()
	raw, err := c.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	Eventually(t, "what was sent has arrived", func() bool {
		unsent := 1
		_ = raw.Control(func(fd uintptr) { unsent, err = unix.IoctlGetInt(int(fd), unix.SIOCOUTQ) })
		return err == nil && unsent == 0
	})
}

// SetBlocking does to the socket what anybody can do who shares it.
func SetBlocking(t *testing.T, ln net.Listener) {
	t.Helper()
	raw, err := ln.(syscall.Conn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if err := raw.Control(func(fd uintptr) { err = syscall.SetNonblock(int(fd), false) }); err != nil {
		t.Fatal(err)
	}
	if err != nil {
		t.Fatal(err)
	}
}

var waitsInKernel = regexp.MustCompile(`(?m)^goroutine \d+ \[syscall[^\n]*\n(?:.+\n)*?.*\.\(\*acceptor\)\.Accept\(`)

// AcceptsInKernel waits until an accept does that no deadline ends.
func AcceptsInKernel(t *testing.T) {
	t.Helper()
	Eventually(t, "accept waits in the kernel", func() bool { return waitsInKernel.MatchString(Stacks()) })
}
