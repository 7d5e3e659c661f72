package session

import "time"

const (
	// maxGreeting is how many connections may be open before their hello was
	// accepted. More are closed at once.
	maxGreeting = 64
	// maxStrangers more are for users that no worker runs as: see let.
	maxStrangers = 8
	// helloTimeout is how long a connection may take to say hello.
	helloTimeout = time.Second
	// pidTimeout is how long a hello that came before SetPID waits for it. The
	// master learns the PID when its fork returns, which is at once unless the
	// machine is badly overloaded.
	pidTimeout = 5 * time.Second
	// maxQueue is how many messages may wait for one worker. A probe is one
	// message; a worker that has so many unread does not live.
	maxQueue = 256
	// maxRate is how many messages a worker may send in rateWindow: it has one
	// beat a second and an answer to each request to send.
	maxRate    = 256
	rateWindow = time.Second
	// countsBurst and countsEvery bound how often a worker's counts are heard, on all of its
	// connections: each time costs the loop up to a millisecond. An SDK says them with each
	// beat, and within one moment up to 64 times when it has drained. Counts are said whole, so
	// what was not heard of them is in the next.
	countsBurst = 80
	countsEvery = 250 * time.Millisecond
	// maxWelcomes is how many connections of one worker are welcomed in rateWindow. An
	// SDK looks for its master every 50 ms at most; each time costs the loop a dozen
	// facts and commands.
	maxWelcomes = 20
	// maxText is how many bytes of a worker's free text are kept.
	maxText = 1024
	// logEvery is the least time between two lines about refused connections.
	logEvery = time.Second
	// crowded is between two connections while as many closes hang as may: see
	// fdpass.Closing.
	crowded = 100 * time.Millisecond
	// acceptFirst and acceptMost bound the wait after an accept that failed
	// (no descriptors left, mostly).
	acceptFirst = 5 * time.Millisecond
	acceptMost  = time.Second
)
