package master

import (
	"sync"
	"time"
)

// queue carries calls to the one goroutine that makes them, the owner. Of each call
// that it takes exactly one function is called: do by the owner, or refused when the
// owner never came. So whatever a call holds (a descriptor, the stream of a caller, a
// process that was just started) has somebody who lets go of it.
//
// A buffered channel beside a channel that says "ended" is not enough for that: a
// select between the two takes either, and what it puts into the buffer after the last
// look at it is lost without a word.
type queue struct {
	calls   chan call     // closed by close; the owner takes what is left
	closing chan struct{} // closed first: who waits for room gives up

	mu     sync.RWMutex // held for reading while a call is put in
	closed bool
}

type call struct{ do, refused func() }

func newQueue(length int) *queue {
	return &queue{calls: make(chan call, length), closing: make(chan struct{})}
}

// put waits for room until limit (nil: for ever). It reports whether the queue has
// taken the call; if it has not, neither of its functions is called.
func (q *queue) put(c call, limit <-chan time.Time) bool {
	q.mu.RLock()
	defer q.mu.RUnlock()
	if q.closed {
		return false
	}
	select {
	case q.calls <- c:
		return true
	case <-q.closing:
	case <-limit:
	}
	return false
}

// try is put without waiting.
func (q *queue) try(c call) bool {
	q.mu.RLock()
	defer q.mu.RUnlock()
	if q.closed {
		return false
	}
	select {
	case q.calls <- c:
		return true
	default:
		return false
	}
}

// close ends the queue; it may be called once, by its owner. What was taken before is
// still in calls, and nothing comes after it.
func (q *queue) close() {
	close(q.closing)
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	close(q.calls)
}

// drain makes the calls that were taken before the close.
func (q *queue) drain() {
	for c := range q.calls {
		c.do()
	}
}

// refuse refuses the calls that were taken before the close.
func (q *queue) refuse() {
	for c := range q.calls {
		if c.refused != nil {
			c.refused()
		}
	}
}
