package ipc

import "time"

// CompareTick is what the time of a comparison is counted in. Tick n begins n of them after the
// zero of CLOCK_MONOTONIC, which is the same in all processes of a machine.
const CompareTick = time.Second

// MaxCompareTicks is how many ticks a message tells, the newest ones; whoever has missed more has
// missed what was before.
const MaxCompareTicks = 32

// Compare is what a worker is to count from now on, beside the workers of another version.
type Compare struct {
	ID    uint64 `json:"id"`    // of this comparison, at least 1: no other has it
	Since int64  `json:"since"` // a tick: connections that were accepted before it do not count
}

// Compared is what a worker has counted for a comparison. Only connections count that it has
// accepted itself, since the tick that was told: neither those of health checks nor those that
// came from another worker. Each has one error at most, the first that it ever had.
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
}

// Monotonic is CLOCK_MONOTONIC's time. It is a system call: who needs it often adds
// [time.Since] to one.
func Monotonic() time.Duration { return monotonic() }
