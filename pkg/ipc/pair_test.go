package ipc

import (
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// Programs that a worker starts do not inherit its control connection, also while the
// number by which it came has yet to be closed.
func TestInheritedIsCloseOnExec(t *testing.T) {
	a, b, err := Pair()
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(b)
	if _, err := unix.FcntlInt(uintptr(a), unix.F_SETFD, 0); err != nil { // as it comes from the master
		t.Fatal(err)
	}
	value, err := InheritedAs(a, a)
	if err != nil {
		t.Fatal(err)
	}
	for range maxClosing { // no close goes on
		closing <- struct{}{}
	}
	link, err := Inherit(value)
	flags, gone := unix.FcntlInt(uintptr(a), unix.F_GETFD, 0)
	for range maxClosing {
		<-closing
	}
	if err != nil {
		t.Fatal(err)
	}
	defer link.Close()
	if gone == nil && flags&unix.FD_CLOEXEC == 0 {
		t.Error("it is inherited")
	}
}
