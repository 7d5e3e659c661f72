package loop

import (
	"reflect"
	"runtime"
	"sync"
	"time"
)

// Queue carries calls to the one goroutine that makes them, the owner. Of each call
// that it takes exactly one function is called: do by the owner, or refused when the
// owner never came. So whatever a call holds (a descriptor, the stream of a caller, a
// process that was just started) has somebody who lets go of it.
//
// A buffered channel beside a channel that says "ended" is not enough for that: a
// select between the two takes either, and what it puts into the buffer after the last
// look at it is lost without a word.
type Queue struct {
	calls   chan Call     // closed by Close; the owner takes what is left
	closing chan struct{} // closed first: who waits for room gives up

	mu     sync.RWMutex // held for reading while a call is put in
	closed bool
}

// Call is what is to be done, and what to do instead if nobody does it (nil: nothing).
type Call struct{ do, refused func() }

// Do makes the call. The owner does so.
func (c Call) Do() { c.do() }

// Name is that of the function which is called.
func (c Call) Name() string { return runtime.FuncForPC(reflect.ValueOf(c.do).Pointer()).Name() }

// NewQueue makes a queue that holds so many calls.
func NewQueue(length int) *Queue {
	return &Queue{calls: make(chan Call, length), closing: make(chan struct{})}
}

// Put has do called, or refused (nil: nothing) if the owner never came. It waits for room
// until limit (nil: for ever). It reports whether the queue has taken the call; if it has
// not, neither of its functions is called.
func (q *Queue) Put(do, refused func(), limit <-chan time.Time) bool {
	q.mu.RLock()
	defer q.mu.RUnlock()
	if q.closed {
		return false
	}
	select {
	case q.calls <- Call{do, refused}:
		return true
	case <-q.closing:
	case <-limit:
	}
	return false
}

// Try is Put without waiting.
func (q *Queue) Try(do func()) bool {
	q.mu.RLock()
	defer q.mu.RUnlock()
	if q.closed {
		return false
	}
	select {
	case q.calls <- Call{do: do}:
		return true
	default:
		return false
	}
}

// Close ends the queue; it may be called once, by its owner. What was taken before is
// still in calls, and nothing comes after it.
func (q *Queue) Close() {
	close(q.closing)
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	close(q.calls)
}

// Drain makes the calls that were taken before the close.
func (q *Queue) Drain() {
	for c := range q.calls {
		c.do()
	}
}

// refuse refuses the calls that were taken before the close.
func (q *Queue) refuse() {
	for c := range q.calls {
		if c.refused != nil {
			c.refused()
		}
	}
}
