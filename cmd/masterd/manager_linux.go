package main

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime/debug"
	"strconv"
	"sync"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
	systemd "github.com/coreos/go-systemd/v22/daemon"

	"github.com/masterd/masterd/pkg/ipc/fdpass"
	"github.com/masterd/masterd/pkg/master/listen"
	"github.com/masterd/masterd/pkg/master/state"
)

const (
	// notifyTimeout is how long the service manager may take to accept a message.
	notifyTimeout = 20 * time.Millisecond
	// maxUnsent is how many messages are kept for a service manager that does
	// not accept any; the oldest ones are forgotten.
	maxUnsent = 64
)

// manager is the service manager that started us, if one did.
type manager struct {
	watchdog time.Duration
	notify   func(state string) // nil: nobody listens
}

// newManager takes what the manager left in the environment out of it.
func newManager(env func(string) string) manager {
	var m manager
	if env(restoredEnv) != "" && env("WATCHDOG_PID") != "" {
		// It was meant for the process in whose place this one runs.
		os.Setenv("WATCHDOG_PID", strconv.Itoa(os.Getpid()))
	}
	m.watchdog, _ = systemd.SdWatchdogEnabled(true) // not for us, or nonsense: none
	socket := env("NOTIFY_SOCKET")
	if socket == "" {
		return m
	}
	os.Unsetenv("NOTIFY_SOCKET")
	// A Go program that panics, or is aborted by the watchdog, exits with 2: to
	// the unit that is wrong usage, after which it is not started again. So it
	// ends by SIGABRT instead.
	debug.SetTraceback("crash")
	m.notify = (&teller{socket: socket}).tell
	return m
}

// givenSockets takes the listening sockets that the service manager has opened
// (sd_listen_fds(3)), by the names of their units' FileDescriptorName=.
func givenSockets() (all []listen.Given) {
	for _, f := range activation.Files(true) {
		// Not by f.Fd(): that clears O_NONBLOCK, which the manager shares.
		if fd, err := fdpass.DuplicateOf(f); err == nil {
			all = append(all, listen.Given{Name: f.Name(), FD: fd})
		}
		_ = f.Close()
	}
	return all
}

// rival tells whether a start has failed because the unit has a master already:
// the keeper has started it in the place of one that died after an upgrade, and
// the service manager has started this process for the same reason.
func (m manager) rival(err error) (held *state.HeldError, ok bool) {
	if m.notify == nil || !errors.As(err, &held) || held.PID == 0 {
		return nil, false
	}
	mine, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return nil, false
	}
	theirs, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", held.PID))
	return held, err == nil && bytes.Equal(mine, theirs) // else it is not the unit's: the error says who it is
}

// teller is sd_notify(3) for a loop that serves: a manager that hangs must not
// hang it. What is not accepted at once is kept and sent before the next
// message; the pulse sees to it that there is one.
type teller struct {
	socket string // a leading "@" is an abstract address
	mu     sync.Mutex
	unsent []string // oldest first
}

func (t *teller) tell(state string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.unsent = append(t.unsent, state)
	t.unsent = t.unsent[max(0, len(t.unsent)-maxUnsent):]
	for len(t.unsent) > 0 && t.send(t.unsent[0]) == nil {
		t.unsent = t.unsent[1:]
	}
}

func (t *teller) send(state string) error {
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: t.socket, Net: "unixgram"})
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SetWriteDeadline(time.Now().Add(notifyTimeout)); err != nil {
		return err
	}
	_, err = c.Write([]byte(state))
	return err
}
