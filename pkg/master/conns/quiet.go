package conns

import (
	"time"

	"github.com/masterd/masterd/pkg/master/sockdiag"
)

const (
	// quietFactor times the longest pause that was seen within an answer is how long a
	// connection has to be quiet before it is closed, within these bounds: leastQuiet once
	// enoughGaps quiet times of the service were seen to end with a request, cautiousQuiet
	// before, and never more than mostQuiet.
	quietFactor   = 4
	leastQuiet    = 25 * time.Millisecond
	cautiousQuiet = 5 * time.Second
	mostQuiet     = 15 * time.Second
	enoughGaps    = 300
	// unclearFactor more it takes where the kernel's clock does not tell what went last.
	unclearFactor = 2
	// enoughTurns is how many further requests, each after an answer, make a connection one
	// that is kept. A TLS handshake looks like one.
	enoughTurns = 2
	// clearGaps is how many quiet times of a connection must have ended with a request where
	// the clock does not tell what went last: its client does not ask in the moment in which
	// it is answered.
	clearGaps = 3
	// gapTime is how long a quiet time has lasted at least that says something: two steps of
	// the kernel's clock, mostly.
	gapTime = 8 * time.Millisecond
	// learntFor is how long a pause is remembered at least, and at most twice that.
	learntFor = time.Hour
)

// phase is what a connection is at.
type phase uint8

const (
	unused  phase = iota // nothing has gone yet
	waiting              // for an answer, or for the rest of one that is on its way
	settled              // what went last was the worker's
	unclear              // or perhaps the client's: the clock does not tell
)

// seen is what was seen of one connection.
type seen struct {
	sockdiag.Socket
	phase   phase
	quiet   time.Duration // at the last look
	asked   time.Time     // when its last request came
	turns   int           // further requests, each after an answer
	gaps    int           // those of which is known that nothing else ended the quiet time before
	bursts  int           // pauses within its answers
	pause   time.Duration // the longest of them
	look    uint64        // that saw it last
	closing bool          // it was closed for us
}

// lessons is what was learnt of a service.
type lessons struct {
	pause, before time.Duration // the longest within an answer, in this hour and the last
	since         time.Time
	gaps          int // quiet times that ended with a request
}

func (l *lessons) learn(pause time.Duration, now time.Time) {
	if now.Sub(l.since) > learntFor {
		l.before, l.pause, l.since = l.pause, 0, now
	}
	l.pause = max(l.pause, pause)
}

func (l *lessons) longest() time.Duration { return max(l.pause, l.before) }

// quiet is how long a kept connection of the service has to be quiet.
func (l *lessons) quiet() time.Duration {
	least := cautiousQuiet
	if l.gaps >= enoughGaps {
		least = leastQuiet
	}
	return min(max(least, quietFactor*l.longest()), mostQuiet)
}

// take notes what a look has found of the connection.
func (c *seen) take(s sockdiag.Socket, now time.Time, l *lessons) {
	was, wasIn := c.Socket, c.phase
	c.Socket = s
	t := s.Info
	if t == nil {
		c.phase = waiting
		return
	}
	const ms = time.Millisecond
	// How long ago they were.
	sent, received := time.Duration(t.Last_data_sent)*ms, time.Duration(t.Last_data_recv)*ms
	c.quiet = received // since it was made, if nothing went
	switch {
	case t.Bytes_received == 0 && t.Bytes_sent == 0:
		c.phase = unused
	case s.Unread > 0 || s.Unsent > 0 || t.Bytes_sent == 0 || t.Bytes_received > 0 && received < sent:
		c.phase = waiting
	case t.Bytes_received > 0 && received == sent:
		c.phase, c.quiet = unclear, sent
	default:
		c.phase, c.quiet = settled, sent
	}
	if t.Bytes_received > 0 {
		c.asked = now.Add(-received)
	}
	if was.Info == nil || wasIn != settled && wasIn != unclear {
		return
	}
	in, out := t.Bytes_received > was.Info.Bytes_received, t.Bytes_sent > was.Info.Bytes_sent
	// One segment each, the request not after the answer: nothing else can have come between.
	both := in && out && sent <= received &&
		t.Data_segs_in == was.Info.Data_segs_in+1 && t.Data_segs_out == was.Info.Data_segs_out+1
	before := quietAt(was)
	switch {
	case in:
		c.turns++
		if (!out || both) && before >= gapTime {
			c.gaps++
			l.gaps++
		}
	case out:
		c.bursts++
		c.pause = max(c.pause, before)
		l.learn(before, now)
	}
}

// quietAt is for how long a connection was quiet when it was looked at.
func quietAt(s sockdiag.Socket) time.Duration {
	return time.Duration(min(s.Info.Last_data_sent, s.Info.Last_data_recv)) * time.Millisecond
}

// Mode is how connections are let go.
type Mode uint8

const (
	// Count closes nothing.
	Count Mode = iota
	// Parked closes kept connections at their quiet moments, and streams that have nothing
	// to say: whoever pushes does so elsewhere by now.
	Parked
	// Drain closes kept connections at their quiet moments, and those that were never used.
	Drain
	// Hurry does the same, and each connection stands for itself: what others have shown of
	// their answers does not count.
	Hurry
	// Last closes whatever has just been answered, of any protocol: it would be cut in a moment.
	Last
)

// needs is how long the connection must have been quiet to be closed; false: it is left alone.
func (c *seen) needs(m Mode, http bool, l *lessons) (quiet time.Duration, may bool) {
	kept := c.turns >= enoughTurns
	switch {
	case c.State != sockdiag.Established || c.phase == waiting || c.closing || m == Count:
		return 0, false
	case m == Last:
		return leastQuiet, c.phase != unused && c.turns > 0 || http && c.phase == unused
	case !http:
		return 0, false
	case c.phase == unused:
		return unusedTime, m != Parked
	case !kept && m == Parked && c.bursts > 0:
		return min(max(cautiousQuiet, quietFactor*l.longest()), mostQuiet), true
	case !kept:
		return mostQuiet, m == Parked
	case m == Hurry:
		quiet = min(max(leastQuiet, quietFactor*c.pause), mostQuiet)
	default:
		quiet = l.quiet()
	}
	if c.phase == unclear {
		quiet *= unclearFactor
		return quiet, c.gaps >= clearGaps || quiet >= unclearTime
	}
	return quiet, true
}

// gone: the client has closed, and everything that it was owed was sent. The program is yet
// to notice.
func (c *seen) gone() bool {
	return c.closing || c.State == sockdiag.CloseWait && c.phase != waiting && c.quiet >= quietTime
}

// Left is what a worker still has.
type Left struct {
	Open    int // connections, also those below
	Waiting int // on which somebody waits for an answer, as far as is known
	Streams int // those that were answered once, and may be at it still
	Unix    int // of Unix sockets: of those nothing else is known
	Closed  int // by the master, so far
	Ended   int // those of the closed that were no HTTP, and may have been in the middle of something
	// Runs is for how long those have been at it on which an answer may be under way, each.
	Runs []time.Duration
}

// count adds a connection that is open.
func (l *Left) count(c *seen, now time.Time) {
	l.Open++
	switch {
	case c.phase == waiting:
		l.Waiting++
	case c.turns > 0 || c.phase == unused || c.bursts == 0 && c.quiet > mostQuiet:
		return
	default:
		l.Streams++
	}
	if !c.asked.IsZero() {
		l.Runs = append(l.Runs, now.Sub(c.asked))
	}
}
