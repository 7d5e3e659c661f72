package api

import (
	"syscall"
	"testing"
)

func TestFullQueueIsBusy(t *testing.T) {
	path := socket(t)
	open := func() int {
		fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { syscall.Close(fd) })
		return fd
	}
	l := open()
	if err := syscall.Bind(l, &syscall.SockaddrUnix{Name: path}); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Listen(l, 1); err != nil {
		t.Fatal(err)
	}
	// Nobody accepts: the queue fills up.
	for syscall.Connect(open(), &syscall.SockaddrUnix{Name: path}) == nil {
	}
	wantFault(t, NewClient(path, "").Alive(t.Context()), Busy, "takes no more connections")
}
