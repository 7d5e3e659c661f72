package load

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

const (
	maxExamples = 5           // of each kind of failure
	maxVersions = 1000        // different X-Worker-Version values told apart
	maxLatency  = time.Minute // longer ones count as this
	digits      = 3           // significant ones of a latency
)

// Kind says how a request failed.
type Kind string

// Kinds of failure.
const (
	DialRefused  Kind = "dial refused"
	DialTimeout  Kind = "dial timeout"
	DialFailed   Kind = "dial failed"            // anything else, a reset among them
	GoneIdle     Kind = "closed while idle"      // a kept connection had been closed, unannounced, before the request was sent
	Closed       Kind = "closed before answer"   // end of stream where an answer should begin
	Reset        Kind = "reset before answer"    // also when the request could not be written
	Timeout      Kind = "timeout"                // no whole answer in time
	ShortHead    Kind = "head cut short"         // closed or reset within the answer's head
	ShortBody    Kind = "body cut short"         // closed or reset within its body
	Malformed    Kind = "malformed answer"       // not HTTP/1.1, no length, too large
	Surplus      Kind = "bytes after the answer" // more than its length says, or unasked for
	CheckRefused Kind = "check refused"          // Plan.Check did not like it
)

// Example is one failed request.
type Example struct {
	At      time.Time // when it failed
	Kept    bool
	Local   string // the client's end of the connection, empty: none
	Nth     int    // which request of its connection it was, from 1
	Version string // X-Worker-Version of the connection's last answer, empty: none
	Err     string
}

// Failure counts the requests that failed in one way.
type Failure struct {
	Kept, Fresh uint64
	Examples    []Example // the first few
}

// Seen is a value of X-Worker-Version in good answers.
type Seen struct {
	Count       uint64
	First, Last time.Time
}

// Result is how a load went so far.
type Result struct {
	Began   time.Time
	Elapsed time.Duration

	Requests    uint64 // ended, well or not
	Kept, Fresh uint64 // of them, on kept and on new connections
	FailedKept  uint64
	FailedFresh uint64
	Unsent      uint64 // had their time before the end, and no worker was free to begin them
	Connections uint64 // made

	// How kept connections ended by the server's will.
	ClosedPolitely uint64 // after an answer with Connection: close; nothing failed
	ClosedIdle     uint64 // without a word, while idle; the request that met it counts as failed too
	// New connections, asked to be closed, that were reset after the whole
	// answer (nothing failed), or still open when the timeout came.
	ResetAfter uint64
	LeftOpen   uint64

	Failures map[Kind]Failure
	Versions map[string]Seen

	// Latency in microseconds of good answers, from the intended start.
	LatencyKept  *hdrhistogram.Histogram
	LatencyFresh *hdrhistogram.Histogram
}

// Failed is how many requests failed in all.
func (r *Result) Failed() uint64 { return r.FailedKept + r.FailedFresh }

// String is the whole result for people, several lines.
func (r *Result) String() string {
	var b strings.Builder
	seconds := max(r.Elapsed.Seconds(), 1e-9)
	fmt.Fprintf(&b, "%d requests in %.1f s (%.0f/s), %d failed\n", r.Requests, seconds, float64(r.Requests)/seconds, r.Failed())
	line := func(name string, n, failed uint64, h *hdrhistogram.Histogram) {
		if n == 0 {
			return
		}
		ms := func(q float64) float64 { return float64(h.ValueAtQuantile(q)) / 1000 }
		fmt.Fprintf(&b, "  %-5s %9d  failed %-6d  ms: p50 %.2f  p99 %.2f  p99.9 %.2f  max %.2f\n",
			name, n, failed, ms(50), ms(99), ms(99.9), float64(h.Max())/1000)
	}
	line("kept", r.Kept, r.FailedKept, r.LatencyKept)
	line("new", r.Fresh, r.FailedFresh, r.LatencyFresh)
	fmt.Fprintf(&b, "  %d connections, kept ones closed politely %d, while idle %d", r.Connections, r.ClosedPolitely, r.ClosedIdle)
	if r.ResetAfter+r.LeftOpen > 0 {
		fmt.Fprintf(&b, "; new ones reset after the answer %d, left open %d", r.ResetAfter, r.LeftOpen)
	}
	if r.Unsent > 0 {
		fmt.Fprintf(&b, "; %d requests could not be sent in time", r.Unsent)
	}
	b.WriteByte('\n')
	for _, kind := range slices.Sorted(maps.Keys(r.Failures)) {
		f := r.Failures[kind]
		fmt.Fprintf(&b, "  failed: %s: %d kept, %d new\n", kind, f.Kept, f.Fresh)
		for _, e := range f.Examples {
			fmt.Fprintf(&b, "    +%.3fs %s\n", e.At.Sub(r.Began).Seconds(), e)
		}
	}
	names := slices.SortedFunc(maps.Keys(r.Versions), func(a, b string) int {
		return r.Versions[a].First.Compare(r.Versions[b].First)
	})
	for _, name := range names {
		v := r.Versions[name]
		fmt.Fprintf(&b, "  version %s: %d, from +%.3fs to +%.3fs\n", name, v.Count, v.First.Sub(r.Began).Seconds(), v.Last.Sub(r.Began).Seconds())
	}
	return b.String()
}

// String is one line.
func (e Example) String() string {
	kind := "new"
	if e.Kept {
		kind = "kept"
	}
	text := fmt.Sprintf("%s connection %s, request %d on it: %s", kind, e.Local, e.Nth, e.Err)
	if e.Version != "" {
		text += " (last answer from " + e.Version + ")"
	}
	return text
}

// tally is what the workers count in. One lock for all: it is taken twice per
// request for less than a microsecond, and a snapshot is consistent.
type tally struct {
	mu sync.Mutex
	r  Result
}

func newTally() tally {
	histogram := func() *hdrhistogram.Histogram { return hdrhistogram.New(1, maxLatency.Microseconds(), digits) }
	return tally{r: Result{
		Failures: map[Kind]Failure{}, Versions: map[string]Seen{},
		LatencyKept: histogram(), LatencyFresh: histogram(),
	}}
}

// good counts a request that was answered as it should be.
func (t *tally) good(kept bool, version string, intended, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.count(kept)
	h := t.r.LatencyFresh
	if kept {
		h = t.r.LatencyKept
	}
	_ = h.RecordValue(max(1, min(now.Sub(intended), maxLatency).Microseconds())) // within its range
	if version == "" {
		return
	}
	v, ok := t.r.Versions[version]
	if !ok && len(t.r.Versions) >= maxVersions {
		return
	}
	if !ok {
		v.First = now
	}
	v.Count++
	v.Last = now
	t.r.Versions[version] = v
}

// failed counts one that was not.
func (t *tally) failed(kind Kind, e Example) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.count(e.Kept)
	f := t.r.Failures[kind]
	if e.Kept {
		t.r.FailedKept++
		f.Kept++
	} else {
		t.r.FailedFresh++
		f.Fresh++
	}
	if len(f.Examples) < maxExamples {
		f.Examples = append(f.Examples, e)
	}
	t.r.Failures[kind] = f
}

func (t *tally) count(kept bool) {
	t.r.Requests++
	if kept {
		t.r.Kept++
	} else {
		t.r.Fresh++
	}
}

// add adds to one of the plain counters.
func (t *tally) add(counter func(*Result) *uint64, n uint64) {
	t.mu.Lock()
	*counter(&t.r) += n
	t.mu.Unlock()
}

// result is a copy that shares nothing.
func (t *tally) result(began, now time.Time) *Result {
	t.mu.Lock()
	defer t.mu.Unlock()
	r := t.r
	r.Began, r.Elapsed = began, now.Sub(began)
	r.Failures = maps.Clone(r.Failures)
	for kind, f := range r.Failures {
		f.Examples = slices.Clone(f.Examples)
		r.Failures[kind] = f
	}
	r.Versions = maps.Clone(r.Versions)
	r.LatencyKept, r.LatencyFresh = r.LatencyKept.Clone(), r.LatencyFresh.Clone()
	return &r
}
