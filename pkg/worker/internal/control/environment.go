package control

import (
	"fmt"
	"strconv"
	"strings"
	"syscall"

	"github.com/masterd/masterd/pkg/ipc"
)

// Environment of systemd's protocols, and of platforms that name a port.
const (
	envListenPID   = "LISTEN_PID"
	envListenFDs   = "LISTEN_FDS"
	envListenNames = "LISTEN_FDNAMES"
	envListenPidfd = "LISTEN_PIDFDID"
	envNotify      = "NOTIFY_SOCKET"
	envPort        = "PORT"
)

const (
	firstListenFD = 3
	maxListenFDs  = 1024 // more than this in LISTEN_FDS is a mistake, not a service
)

// environment is what the process was started with. It is read once.
type environment struct {
	control    string // path of the master's control socket; empty: no master
	worker     uint64
	secret     string    // its first
	inherited  *ipc.Link // the control connection that the process was started with; nil: none
	generation uint64
	service    string
	label      string

	sockets []passedSocket // of systemd
	notify  string
	port    string
}

// passedSocket is a descriptor that systemd passed, with its name.
type passedSocket struct {
	fd   int
	name string // empty: none was given
}

// readEnvironment reads the environment and removes what is ours alone.
// NOTIFY_SOCKET and PORT stay: the program may have its own use for them.
func readEnvironment(lookup func(string) (string, bool), unset func(string) error, pid int) (environment, error) {
	take := func(key string) string {
		v, ok := lookup(key)
		if ok {
			unset(key)
		}
		return v
	}
	e := environment{
		control: take(ipc.EnvControl),
		secret:  take(ipc.EnvSecret),
		service: take(ipc.EnvService),
		label:   take(ipc.EnvVersion),
	}
	worker, generation := take(ipc.EnvWorker), take(ipc.EnvGeneration)
	listenPID, listenFDs, listenNames := take(envListenPID), take(envListenFDs), take(envListenNames)
	take(envListenPidfd)
	take(ipc.EnvRuntimeDir)
	if value := take(ipc.EnvControlFD); value != "" {
		// If it is gone (a program before this one has closed it), there is the path.
		e.inherited, _ = ipc.Inherit(value)
	}

	if e.control != "" {
		var err error
		if e.worker, err = strconv.ParseUint(worker, 10, 64); err != nil || e.worker == 0 {
			return e, fmt.Errorf("%s is set, but %s=%q is no worker's id: masterd sets both; unset them to run without it",
				ipc.EnvControl, ipc.EnvWorker, worker)
		}
		if e.secret == "" {
			return e, fmt.Errorf("%s is set, but %s is not: masterd sets both; unset them to run without it",
				ipc.EnvControl, ipc.EnvSecret)
		}
		if e.generation, err = strconv.ParseUint(generation, 10, 64); generation != "" && err != nil {
			return e, fmt.Errorf("%s=%q is no number", ipc.EnvGeneration, generation)
		}
		return e, nil
	}

	e.notify, _ = lookup(envNotify)
	e.port, _ = lookup(envPort)
	if p, err := strconv.Atoi(listenPID); err != nil || p != pid {
		return e, nil // the sockets are somebody else's, or there are none
	}
	n, err := strconv.Atoi(listenFDs)
	if err != nil || n < 0 || n > maxListenFDs {
		return e, fmt.Errorf("%s=%q is no number of sockets", envListenFDs, listenFDs)
	}
	names := strings.Split(listenNames, ":")
	for i := range n {
		s := passedSocket{fd: firstListenFD + i}
		if i < len(names) {
			s.name = names[i]
		}
		syscall.CloseOnExec(s.fd)
		e.sockets = append(e.sockets, s)
	}
	return e, nil
}

// Info is what a worker knows of itself; see the SDK's Info.
type Info struct {
	Managed    bool
	Worker     uint64
	Generation uint64
	Service    string
	Label      string
}

func (e *environment) info() Info {
	return Info{
		Managed:    e.control != "",
		Worker:     e.worker,
		Generation: e.generation,
		Service:    e.service,
		Label:      e.label,
	}
}

// closeSockets gives up what systemd passed.
func (e *environment) closeSockets() {
	for _, s := range e.sockets {
		syscall.Close(s.fd)
	}
	e.sockets = nil
}
