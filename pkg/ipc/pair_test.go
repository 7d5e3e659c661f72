//go:build linux

package ipc

import (
	"context"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/masterd/masterd/pkg/ipc/fdpass"
)

// noCloses keeps closes of what others have sent from going on, until goOn is called.
func noCloses(t *testing.T) (goOn func()) {
	t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(time.Millisecond) { // those of other tests
		if now, _ := fdpass.Closing(); now == 0 {
			break
		}
		if time.Now().After(end) {
			t.Fatal("something is still being closed")
		}
	}
	_, most := fdpass.Closing()
	over, let := context.WithCancel(context.Background())
	t.Cleanup(let)
	var all sync.WaitGroup
	all.Add(most)
	for range most {
		go fdpass.Await(nil, func() { all.Done(); <-over.Done() })
	}
	all.Wait()
	return let
}

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
	goOn := noCloses(t)
	link, err := Inherit(value)
	flags, gone := unix.FcntlInt(uintptr(a), unix.F_GETFD, 0)
	goOn()
	if err != nil {
		t.Fatal(err)
	}
	defer link.Close()
	if gone == nil && flags&unix.FD_CLOEXEC == 0 {
		t.Error("it is inherited")
	}
}
