package serve

import (
	"slices"
	"sync"
	"time"
)

// timesShards is how many locks the times of requests are behind.
const timesShards = 64

// requestTimes knows since when each request runs. It is asked once a beat and told
// twice with each request, so telling must cost next to nothing: requests that began one
// after the other meet at no lock.
type requestTimes struct {
	since  time.Time // what the shards count from
	shards [timesShards]timesShard
}

type timesShard struct {
	mu      sync.Mutex
	running map[uint64]time.Duration // by the request's number: when it began
	_       [48]byte                 // the rest of a cache line, which processors would fight over
}

func newRequestTimes() *requestTimes {
	r := &requestTimes{since: time.Now()}
	for i := range r.shards {
		r.shards[i].running = make(map[uint64]time.Duration)
	}
	return r
}

// now is the time that the shards count.
func (r *requestTimes) now() time.Duration { return time.Since(r.since) }

// begin notes the n-th request, and returns when that was; no other has that number. Whoever
// begins it calls end.
func (r *requestTimes) begin(n uint64) time.Duration {
	now, s := r.now(), &r.shards[n%timesShards]
	s.mu.Lock()
	s.running[n] = now
	s.mu.Unlock()
	return now
}

func (r *requestTimes) end(n uint64) {
	s := &r.shards[n%timesShards]
	s.mu.Lock()
	delete(s.running, n)
	s.mu.Unlock()
}

// Durations are for how long requests have run.
type Durations struct {
	Count           int
	Longest, Median time.Duration
}

// durations looks at what runs now.
func (r *requestTimes) durations() Durations {
	now := r.now()
	var all []time.Duration
	for i := range r.shards {
		s := &r.shards[i]
		s.mu.Lock()
		for _, at := range s.running {
			all = append(all, max(now-at, 0))
		}
		s.mu.Unlock()
	}
	if len(all) == 0 {
		return Durations{}
	}
	slices.Sort(all)
	n := len(all)
	return Durations{Count: n, Longest: all[n-1], Median: all[n/2]}
}
