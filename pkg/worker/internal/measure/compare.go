package measure

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/masterd/masterd/pkg/ipc"
)

// Unit is what a comparison knows of a client's connection. The zero Unit counts for nobody: its
// connection was not accepted by this worker. Its methods may be called by any goroutine.
type Unit struct {
	of       *Comparison
	accepted int64         // the tick
	had      atomic.Uint32 // a bit for each thing of a tally that it was counted for
}

// Comparison counts client connections, and those of them with an error, a slow request or
// something of the program's own, by the ticks of a master's comparison with another version.
// Its methods may be called by any goroutine.
type Comparison struct {
	start time.Duration // CLOCK_MONOTONIC's time at began, since asking for it is a system call
	began time.Time
	clock func() time.Duration // a test's; nil: the machine's

	measures atomic.Pointer[[]string] // of the one under way; never changed, but replaced

	mu    sync.Mutex
	is    ipc.Compare                    // under way; its ID is zero: none
	from  int64                          // the first tick of which everything is here
	ticks [ipc.MaxCompareTicks + 1]tally // the newest and the one that runs, by their number modulo
}

// What a connection counts for, once for each. Measures follow in the order of the message.
const (
	hadError = iota
	hadSlow
	hadMeasure
	things = hadMeasure + ipc.MaxCompared
)

// tally is what was counted in one tick.
type tally struct {
	tick  int64
	drawn uint64
	had   [things]uint64
}

// NewComparison makes one that compares nothing.
func NewComparison() *Comparison {
	c := &Comparison{start: ipc.Monotonic(), began: time.Now()}
	c.measures.Store(new([]string))
	return c
}

// begin counts for a comparison from now on, which ends the one before; nil: for none.
func (c *Comparison) begin(is *ipc.Compare) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.is, c.ticks = ipc.Compare{}, [len(c.ticks)]tally{}
	var measures []string
	if is != nil {
		c.is, measures = *is, is.Measures
		c.from = max(is.Since, c.now()+1)
	}
	c.measures.Store(&measures)
}

// Accepted notes that the worker has accepted the connection.
func (c *Comparison) Accepted(u *Unit) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now() // under the lock: what was reported of a tick must not change
	u.of, u.accepted = c, now
	if c.is.ID != 0 && now >= c.is.Since {
		c.at(now).drawn++
	}
}

// Failed notes that a request on the connection had an error.
func (u *Unit) Failed() { u.count(hadError) }

// Slow notes that one was slow.
func (u *Unit) Slow() { u.count(hadSlow) }

// Counted notes that the program has counted a measure on it.
func (u *Unit) Counted(measure string) {
	if u.of == nil {
		return
	}
	if i := slices.Index(*u.of.measures.Load(), measure); i >= 0 {
		u.count(hadMeasure + i)
	}
}

// count counts the connection for the first time that it has such a thing, if it began in the
// comparison that is under way.
func (u *Unit) count(thing int) {
	bit := uint32(1) << thing
	if u.of == nil || u.had.Load()&bit != 0 || u.had.Or(bit)&bit != 0 {
		return
	}
	c := u.of
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.is.ID != 0 && u.accepted >= c.is.Since {
		c.at(c.now()).had[thing]++
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
	out.Drawn = c.pairs(out, func(n *tally) uint64 { return n.drawn })
	out.Failed = c.pairs(out, func(n *tally) uint64 { return n.had[hadError] })
	for thing := hadSlow; thing < hadMeasure+len(c.is.Measures); thing++ {
		out.Others = append(out.Others, c.pairs(out, func(n *tally) uint64 { return n.had[thing] }))
	}
	return out
}

// pairs are those of a tick and a count, without those that are zero. They are never nil, which
// is not a list in JSON.
func (c *Comparison) pairs(of *ipc.Compared, count func(*tally) uint64) []uint64 {
	all := []uint64{}
	for t := of.From; t <= of.Through; t++ {
		n := &c.ticks[t%int64(len(c.ticks))]
		if k := count(n); n.tick == t && k > 0 {
			all = append(all, uint64(t), k)
		}
	}
	return all
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
