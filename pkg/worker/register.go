package worker

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	registerCells = 1 << 12 // requests whose begin is noted without a lock
	registerTries = 4       // cells that are looked at before the lock is taken
)

// register knows since when each request runs. It is asked once a beat and told
// twice with each request, so telling must cost next to nothing: the time is
// put into a free cell of a table, found by the request's number. Those that
// find none (thousands run at one time) are kept in a map with a lock.
type register struct {
	since time.Time // what the cells count from
	cells [registerCells]begun

	mu   sync.Mutex
	more map[*begun]struct{}
}

// begun is when a request began, in nanoseconds; zero: the cell is free.
type begun struct {
	at   atomic.Int64
	more bool // it is in the map
}

func newRegister() *register {
	return &register{since: time.Now(), more: make(map[*begun]struct{})}
}

// begin notes the n-th request. Whoever begins it ends what this returns.
func (r *register) begin(n uint64) *begun {
	now := int64(time.Since(r.since)) | 1 // never zero
	for i := range uint64(registerTries) {
		c := &r.cells[cellOf(n+i)]
		if c.at.Load() == 0 && c.at.CompareAndSwap(0, now) {
			return c
		}
	}
	c := &begun{more: true}
	c.at.Store(now)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.more[c] = struct{}{}
	return c
}

// cellOf scatters neighbours: cells in one cache line would be fought over by
// processors whose requests began one after the other.
func cellOf(n uint64) uint64 {
	return n * 0x9E3779B97F4A7C15 >> 52 // its upper 12 bits
}

func (r *register) end(c *begun) {
	c.at.Store(0)
	if c.more {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.more, c)
	}
}

// ages are for how long requests have run.
type ages struct {
	count           int
	longest, median time.Duration
}

// ages looks at what runs now.
func (r *register) ages() ages {
	now := int64(time.Since(r.since))
	var all []int64
	note := func(c *begun) {
		if at := c.at.Load(); at != 0 {
			all = append(all, now-at)
		}
	}
	for i := range r.cells {
		note(&r.cells[i])
	}
	r.mu.Lock()
	for c := range r.more {
		note(c)
	}
	r.mu.Unlock()
	if len(all) == 0 {
		return ages{}
	}
	slices.Sort(all)
	n := len(all)
	return ages{count: n, longest: time.Duration(max(all[n-1], 0)), median: time.Duration(max(all[n/2], 0))}
}
