package main

import (
	"net"
	"os"
	"runtime/debug"
	"time"

	systemd "github.com/coreos/go-systemd/v22/daemon"
)

// notifyTimeout is how long the service manager may take to accept a message.
const notifyTimeout = 500 * time.Millisecond

// manager is the service manager that started us, if one did.
type manager struct {
	watchdog time.Duration
	notify   func(state string) // nil: nobody listens
}

// managerVariables are meant for the service's main process alone. A worker
// that had them could stop the unit with one message.
func managerVariables() []string {
	return []string{
		"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "FDSTORE", "MAINPID",
		"LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "LISTEN_PIDFDID",
		"INVOCATION_ID", "JOURNAL_STREAM", "SYSTEMD_EXEC_PID",
	}
}

// newManager takes what the manager left in the environment out of it.
func newManager(env func(string) string) manager {
	var m manager
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
	m.notify = func(state string) {
		// Nothing can be done about a manager that does not listen, and the
		// next message may do better.
		_ = send(socket, state)
	}
	return m
}

// send is sd_notify(3) with an end: a manager that hangs with its queue full
// must not hang the loop that serves. A leading "@" is an abstract address.
func send(socket, state string) error {
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: socket, Net: "unixgram"})
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
