package ipc

import "time"

// CompareTick is what the time of a comparison is counted in. Tick n begins n of them after the
// zero of CLOCK_MONOTONIC, which is the same in all processes of a machine.
const CompareTick = time.Second

// MaxCompareTicks is how many ticks a message tells, the newest ones; whoever has missed more has
// missed what was before.
const MaxCompareTicks = 32

// Limits of what a comparison is of.
const (
	MaxSlowRoutes = 64 // whose slow requests count
	MaxCompared   = 8  // measures of the program's own
)

// Compare is what a worker is to count from now on, beside the workers of another version.
type Compare struct {
	ID    uint64 `json:"id"`    // of this comparison, at least 1: no other has it
	Since int64  `json:"since"` // a tick: connections that were accepted before it do not count
	// Slow says of which routes requests can be slow, each route once; Measures are the names of
	// measures of the program's own, each once.
	Slow     []SlowRoute `json:"slow,omitempty"`
	Measures []string    `json:"measures,omitempty"`
}

// SlowRoute says from when on a request is slow.
type SlowRoute struct {
	Listener string `json:"listener"`
	Route    string `json:"route"` // as the worker names it in its counts
	NS       uint64 `json:"ns"`    // nanoseconds, at least 1: who takes longer is slow
}

// valid reports whether the protocol has such a message.
func (c *Compare) valid() bool {
	if c.ID < 1 || c.Since < 0 || len(c.Slow) > MaxSlowRoutes || len(c.Measures) > MaxCompared {
		return false
	}
	for _, r := range c.Slow {
		if r.NS < 1 {
			return false
		}
	}
	for _, name := range c.Measures {
		if !IsMeasure(name) {
			return false
		}
	}
	return true
}

// Compared is what a worker has counted for a comparison. Only connections count that it has
// accepted itself, since the tick that was told: neither those of health checks nor those that
// came from another worker. Each counts once for each thing: at its first error, at its first slow
// request, and when a measure was first counted on it.
type Compared struct {
	ID uint64 `json:"id"`
	// From is the first tick of which everything is here, Through the last; From is above Through
	// while there is none.
	From    int64 `json:"from"`
	Through int64 `json:"through"`
	// Pairs of a tick within these and a count, in the order of the ticks, without those that are
	// zero: connections by the tick in which they were accepted, and those that had their
	// first error by the tick in which that ended.
	Drawn  []uint64 `json:"drawn,omitempty"`
	Failed []uint64 `json:"failed,omitempty"`
	// Others are such pairs, too: the first of connections with a slow request, and then one list for
	// each measure of the message. An SDK that counts errors alone has no lists.
	Others [][]uint64 `json:"others,omitempty"`
}

// Monotonic is CLOCK_MONOTONIC's time. It is a system call: who needs it often adds
// [time.Since] to one.
func Monotonic() time.Duration { return monotonic() }
