package programs

import (
	"flag"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/masterd/masterd/test/load"
)

var (
	// kept is how many connections are kept: what is published is with 16 and with 64.
	kept = flag.String("programs.kept", "8", "how many connections are kept; each program runs once with each of these numbers")
	// requests has the reloads of a program wait for each other until there were so many.
	requests = flag.Int("programs.requests", 0, "the least number of requests on kept connections for each program, over all its runs")
)

const (
	maxKept = 1024 // connections
	// requestsTimeout is for the requests from one reload to the next. A program that never
	// answers ends the test.
	requestsTimeout = 10 * time.Minute
)

// keptCounts are the numbers of -programs.kept.
func keptCounts(t *testing.T) (counts []int) {
	t.Helper()
	for text := range strings.SplitSeq(*kept, ",") {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > maxKept {
			t.Fatalf("-programs.kept %s: %q is no number from 1 to %d", *kept, text, maxKept)
		}
		counts = append(counts, n)
	}
	return counts
}

func sum(counts []int) (n int) {
	for _, c := range counts {
		n += c
	}
	return n
}

// waitRequests waits until l has made so many requests.
func waitRequests(t *testing.T, l *load.Load, least uint64) {
	t.Helper()
	for late := time.After(requestsTimeout); l.Snapshot().Requests < least; {
		select {
		case <-late:
			t.Fatalf("not %d requests on kept connections within %s:\n%s", least, requestsTimeout, l.Snapshot())
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// row is how a program's reloads went with so many kept connections.
type row struct {
	program   string
	kept      int
	took      time.Duration // by each reload
	fresh, on *load.Result  // on new connections, and on kept ones
}

// table is what docs/programs.md publishes.
type table struct {
	mu   sync.Mutex
	rows []row
}

func (t *table) add(r row) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.rows = append(t.rows, r)
}

func (t *table) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	b := &strings.Builder{}
	fmt.Fprintf(b, "%d reloads each\n", *reloads)
	b.WriteString("| program | kept | a reload | new connections | failed | requests on kept ones | connections | closed after an answer | while idle | under a request |\n")
	b.WriteString("|" + strings.Repeat("---|", 10))
	for _, r := range t.rows {
		idle := r.on.Failures[load.GoneIdle].Kept
		fmt.Fprintf(b, "\n| %s | %d | %s | %s | %d | %s | %s | %s | %s | %s |", r.program, r.kept, r.took.Round(time.Millisecond),
			thousands(r.fresh.Requests), r.fresh.Failed(), thousands(r.on.Requests), thousands(r.on.Connections),
			thousands(r.on.ClosedPolitely), thousands(idle), thousands(r.on.FailedKept-idle))
	}
	return b.String()
}

// thousands writes 1234567 as 1,234,567.
func thousands(n uint64) string {
	if n < 1000 {
		return strconv.FormatUint(n, 10)
	}
	return fmt.Sprintf("%s,%03d", thousands(n/1000), n%1000)
}
