package measure

import (
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/masterd/masterd/pkg/ipc"
)

// heard is what a master makes of messages: each says its numbers whole.
type heard struct {
	t        *testing.T
	routes   map[[2]string]ipc.RouteCounts
	measures map[string]ipc.MeasureCounts
}

func newHeard(t *testing.T) *heard {
	return &heard{t, map[[2]string]ipc.RouteCounts{}, map[string]ipc.MeasureCounts{}}
}

func (h *heard) next(r *Report) (c *ipc.Counts, more bool) {
	h.t.Helper()
	c, more = r.Next()
	if b, err := json.Marshal(c); err != nil || len(b) > ipc.MaxCounts {
		h.t.Fatalf("%d bytes, %v", len(b), err)
	}
	for _, r := range c.Routes {
		h.routes[[2]string{r.Listener, r.Route}] = r
	}
	for _, m := range c.Measures {
		h.measures[m.Name] = m
	}
	return c, more
}

func quiet() *Program { return NewProgram(nil) }

func TestAReportSaysWhatHasChanged(t *testing.T) {
	s := NewSet()
	p := quiet()
	l, admin := s.Listener("http"), s.Listener("admin")
	l.Open.Add(3)
	l.Accepted.Add(4)
	l.InFlight.Add(1)
	l.Route("GET /a").Count(Answer{Class: 2, In: 5, Out: 7, Took: time.Millisecond})
	l.Route("GET /a").Count(Answer{Class: 5, In: -1, Out: 1, Took: time.Millisecond})
	l.Route("GET /b").Count(Answer{Class: 1, Took: -1})
	admin.Route("").Count(Answer{Class: 4, Took: time.Second})
	p.Count("n", 1)
	r := s.Report(p, 100)
	c, more := r.Next()
	ms, sec := uint64(ipc.LatencyBucket(uint64(time.Millisecond))), uint64(ipc.LatencyBucket(uint64(time.Second)))
	if c.Go == nil || c.Go.Heap == 0 || more {
		t.Errorf("%+v, more %v", c.Go, more)
	}
	c.Go = nil
	want := &ipc.Counts{
		Listeners: []ipc.ListenerCounts{{Listener: "http", InFlight: 1, Open: 3, Accepted: 4}, {Listener: "admin"}},
		Routes: []ipc.RouteCounts{
			{Listener: "http", Route: "GET /a", Status: [5]uint64{0, 1, 0, 0, 1}, BytesIn: 5, BytesOut: 8, NS: 2e6, Latency: []uint64{ms, 2}},
			{Listener: "http", Route: "GET /b", Status: [5]uint64{1}},
			{Listener: "admin", Route: "other", Status: [5]uint64{0, 0, 0, 1}, NS: 1e9, Latency: []uint64{sec, 1}},
		},
		Measures:    []ipc.MeasureCounts{{Name: "n", Total: 1}},
		MaxInFlight: 100,
	}
	if !reflect.DeepEqual(c, want) {
		t.Errorf("at first\n%+v, wanted\n%+v", c, want)
	}
	if c, _ := r.Next(); len(c.Routes)+len(c.Measures) != 0 || len(c.Listeners) != 2 {
		t.Errorf("nothing has changed: %+v", c)
	}
	l.Route("GET /b").Count(Answer{Class: 2, Took: 1})
	p.Count("n", 0)
	if c, _ := r.Next(); len(c.Routes) != 1 || c.Routes[0].Route != "GET /b" || len(c.Measures) != 0 {
		t.Errorf("one route has changed: %+v", c)
	}
	if c, _ := s.Report(p, 0).Next(); len(c.Routes) != 3 || len(c.Measures) != 1 {
		t.Errorf("another connection is told %+v", c)
	}
}

// full counts in every bucket of many routes, with the largest numbers.
func full(s *Set, p *Program, listeners int) {
	for n := range listeners {
		l := s.Listener(fmt.Sprint("listener", n))
		for k := range ipc.MaxRoutes + 1 {
			r := l.Route(fmt.Sprintf("GET /%d%s", k, strings.Repeat("<", ipc.MaxRouteName))) // six bytes each in JSON
			for b := range r.latency {
				r.latency[b].Store(math.MaxUint64)
			}
			r.status[1].Add(1)
		}
	}
	for n := range ipc.MaxMeasures {
		p.Observe(fmt.Sprint("m", n), math.Pi*1e300)
	}
}

func TestAReportIsBoundedAndNobodyStarves(t *testing.T) {
	s := NewSet()
	p := quiet()
	full(s, p, 3)
	r, h := s.Report(p, 0), newHeard(t)
	messages := 1
	for {
		// Who was in the last message changes at once: the others must come all the same.
		c, more := h.next(r)
		for _, rc := range c.Routes {
			for _, l := range s.snapshot() {
				if l.name == rc.Listener {
					for _, route := range l.all() {
						if route.name == rc.Route {
							route.Count(Answer{Class: 2, Took: 1})
						}
					}
				}
			}
		}
		if len(h.routes) == 3*(ipc.MaxRoutes+1) && len(h.measures) == ipc.MaxMeasures {
			break
		}
		if messages++; !more || messages > 100 {
			t.Fatalf("%d messages, more %v: %d routes, %d measures", messages, more, len(h.routes), len(h.measures))
		}
	}
	for more := true; more; messages++ {
		if _, more = h.next(r); messages > 200 {
			t.Fatal("there is no end")
		}
	}
	for _, l := range s.snapshot() {
		for _, route := range l.all() {
			if got := h.routes[[2]string{l.name, route.name}]; got.Status[1] != route.mark() {
				t.Errorf("%s has %d and not %d", route.name, got.Status[1], route.mark())
			}
		}
	}
}

// Names that no message has room for are left out, and hold up nothing.
func TestAReportWithoutRoomForAName(t *testing.T) {
	s := NewSet()
	p := quiet()
	for n := range 100 {
		s.Listener(strings.Repeat("x", 1000) + fmt.Sprint(n)).Route("GET /").Count(Answer{Class: 2})
	}
	s.Listener(strings.Repeat("y", 60<<10)).Route("GET /").Count(Answer{Class: 2})
	s.Listener("http").Route("GET /").Count(Answer{Class: 2})
	r, h := s.Report(p, 0), newHeard(t)
	for more, n := true, 0; more; n++ {
		if _, more = h.next(r); n > 10 {
			t.Fatal("there is no end")
		}
	}
	if len(h.routes) != 101 || h.routes[[2]string{"http", "GET /"}].Status[1] != 1 {
		t.Errorf("%d routes", len(h.routes))
	}
}

// A report reads while others count: at the end it has all.
func TestAReportMissesNothing(t *testing.T) {
	s := NewSet()
	p := quiet()
	l := s.Listener("http")
	const goroutines, each = 4, 20000
	done := make(chan bool)
	for range goroutines {
		go func() {
			for n := range each {
				l.Route(fmt.Sprint("GET /", n%3)).Count(Answer{Class: 1 + n%5, In: 1, Out: 2, Took: 3})
				p.Observe("v", 1)
				if n%100 == 0 {
					runtime.Gosched()
				}
			}
			done <- true
		}()
	}
	r, h := s.Report(p, 0), newHeard(t)
	for ended := 0; ended < goroutines; {
		h.next(r)
		select {
		case <-done:
			ended++
		default:
		}
	}
	h.next(r)
	var sum ipc.RouteCounts
	for _, r := range h.routes {
		for i, n := range r.Status {
			sum.Status[i] += n
		}
		sum.BytesIn, sum.BytesOut, sum.NS = sum.BytesIn+r.BytesIn, sum.BytesOut+r.BytesOut, sum.NS+r.NS
		for i := 1; i < len(r.Latency); i += 2 {
			sum.Latency = append(sum.Latency, r.Latency[i])
		}
	}
	const all = goroutines * each
	if sum.Status != [5]uint64{all / 5, all / 5, all / 5, all / 5, all / 5} || sum.BytesIn != all || sum.BytesOut != 2*all || sum.NS != 3*all {
		t.Errorf("%+v", sum)
	}
	if n := sum.Latency[0] + sum.Latency[1] + sum.Latency[2]; n != all {
		t.Errorf("%d latencies", n)
	}
	if m := h.measures["v"]; m.Observed != all || m.Sum != all || m.Last != 1 {
		t.Errorf("%+v", m)
	}
}

func TestGoCounts(t *testing.T) {
	var g goRuntime
	g.counts()
	runtime.GC()
	before := g.counts()
	for range 3 {
		runtime.GC()
	}
	c := g.counts()
	if c.GCs < before.GCs+3 || c.PauseNS <= before.PauseNS || c.PauseMaxNS == 0 || c.PauseMaxNS > c.PauseNS-before.PauseNS || c.Heap == 0 {
		t.Errorf("after three collections %+v, before %+v", c, before)
	}
	if n := testing.AllocsPerRun(100, func() { g.counts() }); n > 1 { // what it returns
		t.Errorf("%v allocations", n)
	}
}
