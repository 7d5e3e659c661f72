package workers

import (
	"testing"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/masterd/masterd/pkg/master/config"
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
			if got := nonBlocking(t, fd); got != c.after {
				t.Errorf("non-blocking: %v, want %v", got, c.after)
			}
		})
	}
}

// systemd makes its socket blocking for the master that it starts, and so for workers
// that an earlier one has started.
func TestModeOfAGivenSocketIsItsWorkers(t *testing.T) {
	for _, c := range []struct {
		name   string
		worker config.Worker
		want   bool
	}{
		{"sdk", config.Worker{Kind: config.KindSDK}, true},
		{"takes its sockets", config.Worker{Kind: config.KindSocketActivation}, false},
		{"takes its sockets, non-blocking", config.Worker{Kind: config.KindSocketActivation, NonBlocking: true}, true},
	} {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		set, given := New(Options{Log: zap.NewNop()}), []listen.Given{{Name: "http", FD: fd}}
		set.Unblock(given) // for nobody
		if got := nonBlocking(t, fd); got {
			t.Error(c.name, "non-blocking, and nobody is there")
		}
		set.workers[1] = &Worker{Generation: &Generation{Config: &config.Config{Worker: c.worker}}}
		set.Unblock(given)
		if got := nonBlocking(t, fd); got != c.want {
			t.Errorf("%s: non-blocking: %v, want %v", c.name, got, c.want)
		}
	}
}

func nonBlocking(t *testing.T, fd int) bool {
	t.Helper()
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	if err != nil {
		t.Fatal(err)
	}
	return flags&unix.O_NONBLOCK != 0
}
