// Package notify receives what workers say by sd_notify(3), as systemd would. Each
// worker has a socket of its own, whose path is in its NOTIFY_SOCKET.
//
// A message is a fact and no decision: READY, WATCHDOG, STOPPING and EXTEND_TIMEOUT_USEC
// become events of the machine, as an SDK worker's messages do. A watchdog that runs out
// ends a worker even if it is the last one, because its program asked for that.
//
// The sockets outlive the master: the keeper holds them, and what is said
// meanwhile waits in them.
package notify

import (
	"time"

	"go.uber.org/zap"

	"github.com/masterd/masterd/pkg/master/keeper"
)

// Dir is the directory of the sockets, in the runtime directory.
const Dir = "notify"

// HeldPrefix begins the names of all that the keeper holds for this package.
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
	// Keeper holds the sockets beside the server.
	Keeper keeper.Holder
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
