package conns

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/masterd/masterd/pkg/master/sockdiag"
)

// history plays what looks have found of a connection, each step so long after the one before.
type history struct {
	c      seen
	l      lessons
	now    time.Time
	info   unix.TCPInfo
	unread uint32
}

func newHistory() *history { return &history{now: time.Unix(1_000_000, 0)} }

// look looks after a time in which nothing has come.
func (h *history) look(after time.Duration) *history {
	h.now = h.now.Add(after)
	h.info.Last_data_sent += uint32(after.Milliseconds())
	h.info.Last_data_recv += uint32(after.Milliseconds())
	t := h.info
	h.c.take(sockdiag.Socket{State: sockdiag.Established, Unread: h.unread, Info: &t}, h.now, &h.l)
	return h
}

func (h *history) request() *history {
	h.info.Bytes_received += 100
	h.info.Data_segs_in++
	h.info.Last_data_recv = 0
	return h
}

func (h *history) answer() *history {
	h.info.Bytes_sent += 1000
	h.info.Data_segs_out++
	h.info.Last_data_sent = 0
	return h
}

// turn is a request, its answer some time later, and a pause, looked at as often as it is useful.
func (h *history) turn(thinks, pause time.Duration) *history {
	return h.request().look(thinks).answer().look(0).look(pause)
}

// needs is what the connection needs to be closed, in a mode.
func (h *history) needs(m Mode) time.Duration {
	quiet, may := h.c.needs(m, true, &h.l)
	if !may {
		return -1
	}
	return quiet
}

const never = time.Duration(-1)

func TestWhatAConnectionNeeds(t *testing.T) {
	const ms = time.Millisecond
	kept := func() *history { return newHistory().turn(8*ms, 80*ms).turn(8*ms, 80*ms).turn(8*ms, 80*ms) }
	// A clock that does not tell what went last.
	fast := func() *history {
		return newHistory().request().answer().look(80 * ms).request().answer().look(80 * ms).request().answer().look(80 * ms).request().answer().look(80 * ms)
	}
	for _, c := range []struct {
		what                 string
		h                    *history
		parked, drain, hurry time.Duration
	}{
		{"one that was never used", newHistory().look(time.Minute), never, unusedTime, unusedTime},
		{"one that is asked for the first time", newHistory().request().look(time.Minute), never, never, never},
		{"one that was answered once", newHistory().turn(8*ms, time.Minute), mostQuiet, never, never},
		{"one that was answered twice", newHistory().turn(8*ms, 80*ms).turn(8*ms, time.Minute), mostQuiet, never, never},
		{"one that is kept", kept(), cautiousQuiet, cautiousQuiet, leastQuiet},
		{"one that is kept and asked", kept().request().look(time.Minute), never, never, never},
		{"one that is kept and answered at once", fast(), 2 * cautiousQuiet, 2 * cautiousQuiet, 2 * leastQuiet},
		{"one of a client that asks as it is answered", newHistory().request().answer().look(4 * ms).request().answer().look(4 * ms).request().answer().look(4 * ms),
			2 * cautiousQuiet, 2 * cautiousQuiet, never},
		{"a stream", newHistory().turn(8*ms, 2*time.Second).answer().look(2 * time.Second).answer().look(0), 8 * time.Second, never, never},
		{"a kept one whose answer has paused", kept().request().look(8 * ms).answer().look(3 * time.Second).answer().look(80 * ms), 12 * time.Second, 12 * time.Second, 12 * time.Second},
		{"the same for a minute", kept().request().look(8 * ms).answer().look(time.Minute).answer().look(80 * ms), mostQuiet, mostQuiet, mostQuiet},
	} {
		for m, want := range map[Mode]time.Duration{Count: never, Parked: c.parked, Drain: c.drain, Hurry: c.hurry} {
			if got := c.h.needs(m); got != want {
				t.Errorf("%s, mode %d: %v, want %v", c.what, m, got, want)
			}
		}
		if _, may := c.h.c.needs(Hurry, false, &c.h.l); may {
			t.Errorf("%s: closed though it is not known to be HTTP", c.what)
		}
	}
}

// A service that has shown enough of itself is not waited for for long.
func TestWhatIsLearntOfAService(t *testing.T) {
	const ms = time.Millisecond
	h := newHistory()
	for range enoughGaps + 1 {
		h.turn(8*ms, 80*ms)
	}
	if got := h.needs(Drain); got != leastQuiet {
		t.Errorf("%v, want %v", got, leastQuiet)
	}
	h.request().look(8 * ms).answer().look(200 * ms).answer().look(0)
	if got := h.needs(Drain); got != 800*ms {
		t.Errorf("after a pause of 200 ms within an answer: %v", got)
	}
	// What another connection has shown counts, but not where each stands for itself.
	other := newHistory()
	other.l = h.l
	other.turn(8*ms, 80*ms).turn(8*ms, 80*ms).turn(8*ms, 80*ms)
	if drain, hurry := other.needs(Drain), other.needs(Hurry); drain != 800*ms || hurry != leastQuiet {
		t.Errorf("of another connection: %v, %v", drain, hurry)
	}
	// It is not remembered for ever.
	h.now = h.now.Add(2 * learntFor)
	h.request().look(8 * ms).answer().look(20 * ms).answer().look(0)
	if got := h.l.longest(); got != 200*ms {
		t.Errorf("in the next hour the longest is %v", got)
	}
	h.now = h.now.Add(2 * learntFor)
	h.request().look(8 * ms).answer().look(20 * ms).answer().look(0)
	if got := h.l.longest(); got != 20*ms {
		t.Errorf("two hours later the longest is %v", got)
	}
}

func TestWhatIsLeft(t *testing.T) {
	const ms = time.Millisecond
	var l Left
	for _, h := range []*history{
		newHistory().look(time.Minute),
		newHistory().request().look(4 * time.Second),
		newHistory().turn(8*ms, 3*time.Second),
		newHistory().turn(8*ms, time.Minute),
		newHistory().turn(8*ms, 80*ms).turn(8*ms, 80*ms),
	} {
		l.count(&h.c, h.now)
	}
	if l.Open != 5 || l.Waiting != 1 || l.Streams != 1 || len(l.Runs) != 2 || l.Runs[0] != 4*time.Second || l.Runs[1] != 3*time.Second+8*ms {
		t.Errorf("%+v", l)
	}
}
