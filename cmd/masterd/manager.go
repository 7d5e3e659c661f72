package main

import (
	"os"
	"sync"
	"time"

	systemd "github.com/coreos/go-systemd/v22/daemon"
)

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
	var mu sync.Mutex
	m.notify = func(state string) {
		mu.Lock()
		defer mu.Unlock()
		// The package finds the socket in the environment only. It is there for
		// as long as the message takes.
		os.Setenv("NOTIFY_SOCKET", socket)
		// Nothing can be done about a manager that does not listen, and the
		// next message may do better.
		_, _ = systemd.SdNotify(true, state)
	}
	return m
}
