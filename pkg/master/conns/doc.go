// Package conns tells whether a worker that masterd cannot ask still has clients:
// by the kernel's tables of connections, and by who has them open.
//
// A connection counts as idle when nothing waits in it in either direction, what
// went last was the worker's, and it has been quiet for a second; or for ten where the
// kernel's clock cannot tell what went last. That is an HTTP connection between two
// requests. It is also a stream of events that has nothing to say: of those the kernel
// knows no more.
//
// The functions keep nothing and may be called from any goroutine. They read the tables of
// the whole machine, which takes milliseconds, so they are called beside the loop.
package conns

import "time"

const (
	// quietTime is how long an idle connection has been quiet.
	quietTime = time.Second
	// unclearTime is how long it has to be quiet where it is not known what went
	// last: the kernel's clock for that has steps of 1 to 10 ms, and a request may
	// follow an answer within one.
	unclearTime = 10 * time.Second
	// answerTime is how long it has to be quiet there to count as answered for the
	// moment: most answers come sooner.
	answerTime = 50 * time.Millisecond
)

// Open is how many connections a worker has.
type Open struct {
	Busy  int
	Asked int // those of the busy ones on which somebody waits for an answer now, as far as is known
	Idle  int
}
