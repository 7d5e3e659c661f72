package session

import (
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/masterd/masterd/pkg/ipc"
)

// Reasons for which a connection is refused: few and fixed, to count by.
const (
	RefusedCrowd    = "crowd"    // too many connections before hello
	RefusedSilence  = "silence"  // no hello in time
	RefusedLeft     = "left"     // gone before hello
	RefusedGarbage  = "garbage"  // the first message is not a hello
	RefusedProtocol = "protocol" // no protocol version in common
	RefusedSecret   = "secret"   // unknown worker, or not its secret
	RefusedUser     = "user"     // the peer runs as somebody else
	RefusedProcess  = "process"  // the peer is not in the worker's process group
	RefusedEarly    = "early"    // the worker's process did not become known in time
	RefusedGone     = "gone"     // the worker was forgotten meanwhile
	RefusedOften    = "often"    // the worker connects again and again
	RefusedBroken   = "broken"   // the connection broke while it was being welcomed
)

// refusal is why a connection is not welcome.
type refusal struct {
	reason string // one of the constants
	text   string // for the peer and the log
}

// final says whether the same peer would be refused again. Only then is it
// sent a reject, which a worker that is new takes as the end; a connection that
// just ends it tries again.
func (r refusal) final() bool {
	switch r.reason {
	case RefusedGarbage, RefusedProtocol, RefusedSecret, RefusedUser, RefusedProcess:
		return true
	}
	return false
}

// door counts refusals and logs them, but not each: a flood of garbage must
// not become a flood of lines.
type door struct {
	log  *zap.Logger
	tell func(reason string)

	mu      sync.Mutex
	refused int
	logged  time.Time
	silent  int // refusals since then that were not logged
}

func (d *door) refuse(r refusal, cred ipc.Cred) {
	now := time.Now()
	d.mu.Lock()
	d.refused++
	loud := now.Sub(d.logged) >= logEvery
	silent := d.silent
	if loud {
		d.logged, d.silent = now, 0
	} else {
		d.silent++
	}
	d.mu.Unlock()

	if loud {
		d.log.Warn("refused a connection to the control socket",
			zap.String("reason", r.reason), zap.String("detail", r.text),
			zap.Int("peer_pid", cred.PID), zap.Uint32("peer_uid", cred.UID), zap.Int("more_since_last_line", silent))
	}
	if d.tell != nil {
		d.tell(r.reason)
	}
}
