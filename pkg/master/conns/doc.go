// Package conns tells whether a worker that masterd cannot ask still has clients, by the
// kernel's tables of connections and by who has them open, and closes its connections one
// at a time, each at a moment at which nobody waits for anything.
//
// What the kernel tells of one moment is not enough for that: an answer that pauses looks
// like a connection that waits for its next request. So a [Watch] remembers what it has
// seen. A connection may be closed once it has had further requests after an answer, and
// has been quiet since its last one for a multiple of the longest pause that was seen within
// an answer on that service. One that was only ever answered once may be a stream, and is
// left alone. So are connections that are not known to be HTTP: of those nobody can tell
// from outside whether they are in the middle of something.
//
// Where descriptors may not be taken from a worker (pidfd_getfd(2) asks for what ptrace
// does), [Of] looks for one moment at which all of its connections are idle.
//
// All functions may be called from any goroutine. They read the tables of the whole
// machine, which takes milliseconds, so they are called beside the loop.
package conns

import "time"

const (
	// quietTime is how long an idle connection has been quiet.
	quietTime = time.Second
	// unusedTime is how long one is left alone on which nothing was sent yet: its request may
	// be on its way. http.Server.Shutdown waits as long.
	unusedTime = 5 * time.Second
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
