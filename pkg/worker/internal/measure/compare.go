package measure

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/masterd/masterd/pkg/ipc"
)

// Unit is what a comparison knows of a client's connection. The zero Unit counts for nobody: its
// connection was not accepted by this worker.
type Unit struct {
	accepted int64 // the tick, plus one
	failed   atomic.Bool
}

// Comparison counts client connections, and those that had an error, by the ticks of a master's
// comparison with another version. Its methods may be called by any goroutine.
type Comparison struct {
	start time.Duration // CLOCK_MONOTONIC's time at began, since asking for it is a system call
	began time.Time
	clock func() time.Duration // a test's; nil: the machine's

	mu    sync.Mutex
	is    ipc.Compare                    // under way; its ID is zero: none
	from  int64                          // the first tick of which everything is here
	ticks [ipc.MaxCompareTicks + 1]tally // the newest and the one that runs, by their number modulo
}

// tally is what was counted in one tick.
type tally struct {
	tick          int64
	drawn, failed uint64
}

// NewComparison makes one that compares nothing.
func NewComparison() *Comparison {
	return &Comparison{start: ipc.Monotonic(), began: time.Now()}
}

// Begin counts for a comparison from now on, which ends the one before; nil: for none.
func (c *Comparison) Begin(is *ipc.Compare) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.is, c.ticks = ipc.Compare{}, [len(c.ticks)]tally{}
	if is != nil {
		c.is = *is
		c.from = max(is.Since, c.now()+1)
	}
}

// Accepted notes that the worker has accepted a connection.
func (c *Comparison) Accepted(u *Unit) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now() // under the lock: what was reported of a tick must not change
	u.accepted = now + 1
	if c.is.ID != 0 && now >= c.is.Since {
		c.at(now).drawn++
	}
}

// Failed notes that a request on a connection had an error. Only the first one counts, and only
// if the connection began in the comparison that is under way.
func (c *Comparison) Failed(u *Unit) {
	if u.accepted == 0 || u.failed.Load() || u.failed.Swap(true) {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.is.ID != 0 && u.accepted > c.is.Since {
		c.at(c.now()).failed++
	}
}

// report is what the next message says; nil: no comparison is under way.
func (c *Comparison) report() *ipc.Compared {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.is.ID == 0 {
		return nil
	}
	through := c.now() - 1
	out := &ipc.Compared{ID: c.is.ID, From: max(c.from, through-ipc.MaxCompareTicks+1), Through: through}
	for t := out.From; t <= through; t++ {
		n := c.ticks[t%int64(len(c.ticks))]
		if n.tick != t {
			continue
		}
		if n.drawn > 0 {
			out.Drawn = append(out.Drawn, uint64(t), n.drawn)
		}
		if n.failed > 0 {
			out.Failed = append(out.Failed, uint64(t), n.failed)
		}
	}
	return out
}

// at is the tally of the tick that runs.
func (c *Comparison) at(now int64) *tally {
	n := &c.ticks[now%int64(len(c.ticks))]
	if n.tick != now {
		*n = tally{tick: now}
	}
	return n
}

// now is the tick that runs.
func (c *Comparison) now() int64 {
	if c.clock != nil {
		return int64(c.clock() / ipc.CompareTick)
	}
	return int64((c.start + time.Since(c.began)) / ipc.CompareTick)
}
