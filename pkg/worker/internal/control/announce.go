package control

import (
	"fmt"
	"time"

	"github.com/masterd/masterd/pkg/ipc"
)

// announcement is a leave that load balancers are to see before it begins.
type announcement struct {
	why   string      // the leave's reason; empty: nothing is announced
	timer *time.Timer // ends it
}

// announce begins to announce a leave, in a worker without a master, if the program wants
// that and it has not begun. True: the leave waits until the announcement has ended.
func (l *lifecycle) announce(why string) bool {
	if l.info.Managed || l.Program.Announce <= 0 || l.State() != ipc.StateActive || l.announcement.why != "" {
		l.announcement.timer.Stop()
		return false
	}
	l.announcement.why = why
	l.stopping.Store(true)
	l.announcement.timer.Reset(l.Program.Announce)
	l.log.Info("worker: about to leave, serving on until load balancers have looked away",
		"why", why, "for", l.Program.Announce)
	say := "STOPPING=1"
	if t := l.DrainTimeout; t > 0 {
		// The two together may take longer than who asked expects.
		say += fmt.Sprintf("\nEXTEND_TIMEOUT_USEC=%d", (l.Program.Announce + t + 2*time.Second).Microseconds())
	}
	l.notify(say)
	return true
}
