package proc

import (
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/masterd/masterd/pkg/master/process"
)

// OrphanWait is how long a child that has ended is left to whoever started it: they
// wait for their children at once. One that is there for longer was given to this
// process by the kernel when its parent ended, and nobody waits for it.
const OrphanWait = time.Second

// Orphans waits for such children. Look is to be called every OrphanWait, always by
// the same goroutine.
type Orphans struct {
	seen map[int]string // that had ended at the last look, with their starts
	at   time.Time      // of the last look
}

// Look waits for those that had ended already at the last look. It returns how many.
func (o *Orphans) Look() (reaped int) {
	before, now := o.seen, time.Now()
	if paused := now.Sub(o.at) > 2*OrphanWait; paused {
		before = nil // those who wait for their children were stopped as well
	}
	o.seen, o.at = nil, now
	if !someEnded() {
		return 0
	}
	o.seen = map[int]string{}
	self := os.Getpid()
	for pid := range process.All() {
		s, err := process.StatusOf(pid)
		if err != nil || s.Parent != self || !s.Ended() {
			continue
		}
		if before[pid] != s.Begun {
			o.seen[pid] = s.Begun
			continue
		}
		if got, err := unix.Wait4(pid, nil, unix.WNOHANG, nil); err == nil && got == pid {
			reaped++
		}
	}
	return reaped
}

// someEnded tells whether any child has ended and was not waited for.
func someEnded() bool {
	var info unix.Siginfo
	for {
		err := unix.Waitid(unix.P_ALL, 0, &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil)
		if err == unix.EINTR {
			continue
		}
		return err == nil && info.Signo != 0
	}
}
