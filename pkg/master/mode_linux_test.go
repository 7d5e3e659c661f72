package master

import (
	"testing"

	"golang.org/x/sys/unix"

	"github.com/masterd/masterd/pkg/master/listen"
)

// A worker that comes does not make the socket block that another one serves from.
func TestModeOfASharedSocketIsItsHolders(t *testing.T) {
	for _, c := range []struct {
		name              string
		before            bool // it is non-blocking
		held, nonBlocking bool
		after             bool
	}{
		{"first worker", true, false, false, false},
		{"first worker, non-blocking", false, false, true, true},
		{"beside another", true, true, false, true},
		{"beside another that waits in accept", false, true, false, false},
		{"beside another, non-blocking", false, true, true, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer unix.Close(fd)
			if err := unix.SetNonblock(fd, c.before); err != nil {
				t.Fatal(err)
			}
			if err := setMode(listen.File{Name: "http", FD: fd, Held: c.held}, c.nonBlocking); err != nil {
				t.Fatal(err)
			}
			flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
			if got := flags&unix.O_NONBLOCK != 0; err != nil || got != c.after {
				t.Errorf("non-blocking: %v (%v), want %v", got, err, c.after)
			}
		})
	}
}
