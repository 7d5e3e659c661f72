// Package contain keeps each worker together with all that it starts, so that all
// of it can be ended, whatever session, group or parent it has made for itself.
//
// Nothing that a worker has started outlives it: it may hold the worker's sockets and go on
// taking connections. It is ended before the machine hears of the worker's end, which waits
// for that no longer than workers.LeftoverLimit. All that is left then is ended at a stop.
//
// Where it can, each worker gets a cgroup (v2) below the one that masterd is in. Only
// membership and cgroup.kill are used and no controller is enabled, because systemd cannot
// start a unit again in whose cgroup one is enabled while a process of a killed master is
// left below it. A worker with limits of its own gets the cgroup of a systemd scope instead,
// beside masterd's unit (scope_linux.go).
//
// Where no cgroup can be made, or a process has left it, processes are found by the
// environment that the worker was started with, by its session, and by their ancestors. That
// finds everything but a process that has left its session, has lost its parent, and has
// cleared or overwritten its environment; such a process becomes masterd's child, and is
// ended at a stop.
package contain

import (
	"crypto/sha256"
	"encoding/hex"
	"time"
)

const (
	// killLimit is how long the kernel may take to end what was killed.
	killLimit = 5 * time.Second
	// Between two looks at what was killed.
	killLook = time.Millisecond
	// The longest pause between two looks over all processes.
	killLookLast = 100 * time.Millisecond
	// maxBelow bounds how many cgroups that a worker has made below its own are
	// removed at a time.
	maxBelow = 4096
	// maxEarlier is how many cgroups of earlier masters are looked into.
	maxEarlier = 64
	// maxEnded is how many ended processes are told by number.
	maxEnded = 64
)

// Worker names a worker's processes.
type Worker struct {
	ID    uint64
	PID   int    // of its first process, which made its session; zero: it is not known
	Begun string // that process's start, as process.Begun says it
}

// Limits are a worker's, together with all that it starts. Zero is none.
type Limits struct {
	Tasks              uint64 // processes and threads
	Memory, MemoryHigh uint64 // bytes; above the second it is slowed down
	Description        string // of its scope, for people
}

// Any tells whether there is one.
func (l Limits) Any() bool { return l.Tasks > 0 || l.Memory > 0 || l.MemoryHigh > 0 }

// Options say whose workers they are.
type Options struct {
	RuntimeDir string   // the service's: names its cgroup
	Before     []string // the cgroups that earlier masters of the service used, the last one's first

	// Marked tells whether an environment is one that a worker of this service was
	// started with, and which one's.
	Marked func(env []string) (worker uint64, ok bool)
	// Operators tells whether an environment is one that masterd runs an operator's
	// program with. What such a program leaves running is not a worker's. Nil: none is.
	Operators func(env []string) bool
}

// name is the name of a service's cgroup.
func name(runtimeDir string) string {
	sum := sha256.Sum256([]byte(runtimeDir))
	return "masterd-" + hex.EncodeToString(sum[:6])
}
