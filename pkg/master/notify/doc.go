// Package notify hears what workers say by sd_notify, as systemd would: each
// worker has a socket of its own, and is told of it by NOTIFY_SOCKET.
//
// The sockets outlive the master: the keeper holds them, and what is said
// meanwhile waits in them.
package notify

import (
	"time"

	"go.uber.org/zap"
)

// Dir is the directory of the sockets, in the runtime directory.
const Dir = "notify"

// HeldPrefix begins the names of all that the keeper holds for this room.
const HeldPrefix = "notify/"

// MaxFDs is how many descriptors one message may bring. Linux allows 253.
const MaxFDs = 253

const (
	// maxMessage is the longest message in bytes, as systemd's is (PIPE_BUF).
	maxMessage = 4096
	// perSecond is how many messages of one worker reach Hear in a second. What comes
	// faster is merged into one message, so that the sender does not wait.
	perSecond = 200
	// burst is how many of them may come at once.
	burst = 200
	// readPerSecond is how many messages of one worker are read in a second. A worker
	// that sends more waits in its sends: it would cost the master a core.
	readPerSecond = 10_000
	// toldEvery is the least time between two lines of the log about one worker's
	// messages.
	toldEvery = time.Minute
)

// Options say where the sockets are, and who keeps them.
type Options struct {
	Dir string // made, mode 0711
	// Keep is told of each socket that there is, so that another process can hold
	// it; Drop when it is no more. Either may be nil.
	Keep func(name string, fd int)
	Drop func(name string)
	// Log may be nil.
	Log *zap.Logger
}

// Worker is who may speak on a socket.
type Worker struct {
	ID    uint64
	UID   int
	Group bool // any process of its group may speak, and not only its first
	// Access is its own last NOTIFYACCESS, heard by an earlier master; empty: none.
	Access Access
	// Hear takes what was said, in order, from one goroutine. The descriptors are
	// the callee's.
	Hear func(m Message, fds []int)
}
