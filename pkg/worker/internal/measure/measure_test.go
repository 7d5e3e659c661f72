package measure

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/masterd/masterd/pkg/ipc"
)

func TestRoutesAreBounded(t *testing.T) {
	s := NewSet()
	l := s.Listener("http")
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for n := range 1000 {
				l.Route(fmt.Sprint("GET /", (n+g*125)%1000)).Count(Answer{Class: 2})
			}
		}()
	}
	wg.Wait()
	l.Route("").Count(Answer{Class: 2})
	routes := l.all()
	if len(routes) != ipc.MaxRoutes+1 {
		t.Errorf("%d routes", len(routes))
	}
	var other, sum uint64
	for _, r := range routes {
		sum += r.mark()
		if r.name == ipc.RouteOther {
			other = r.mark()
		} else if r.mark() != 8 {
			t.Errorf("%s has %d", r.name, r.mark())
		}
	}
	if sum != 8001 || other != 8001-8*ipc.MaxRoutes {
		t.Errorf("%d requests, %d of other", sum, other)
	}
}

func TestRouteNames(t *testing.T) {
	s := NewSet()
	l := s.Listener("http")
	long := strings.Repeat("x", ipc.MaxRouteName-1)
	for pattern, want := range map[string]string{
		"":                                 "other",
		"other":                            "other",
		"GET /users/{id}":                  "GET /users/{id}",
		"GET /\xff":                        "GET /\uFFFD",
		long + "ü":                         long,
		long + "üü":                        long, // the same route: its name is
		strings.Repeat("\xff/", 300):       strings.Repeat("\uFFFD/", 32),
		strings.Repeat("é", 300) + "\x00b": strings.Repeat("é", 64),
	} {
		got := l.Route(pattern).name
		if got != want || !utf8.ValidString(got) || len(got) > ipc.MaxRouteName {
			t.Errorf("%q is %q, wanted %q", pattern, got, want)
		}
	}
	if l.Route(long+"ü") != l.Route(long+"üü") {
		t.Error("two routes have one name")
	}
}

func TestCountingAllocatesNothing(t *testing.T) {
	s := NewSet()
	l := s.Listener("http")
	p := NewProgram(nil)
	l.Route("GET /")
	p.Count("orders", 1)
	p.Observe("pool_ratio", 0.5)
	for n := range 1000 {
		l.Route(fmt.Sprint("GET /", n))
	}
	for name, f := range map[string]func(){
		"a route":    func() { l.Route("GET /").Count(Answer{Class: 2, In: 7, Out: 9, Took: time.Millisecond}) },
		"other":      func() { l.Route("GET /one too many").Count(Answer{Class: 5, Took: time.Second}) },
		"a count":    func() { p.Count("orders", 2) },
		"a value":    func() { p.Observe("pool_ratio", 0.25) },
		"no a count": func() { p.Count("orders", -1) },
	} {
		if n := testing.AllocsPerRun(1000, f); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

// What counting costs a request, without the clock:
//
//	go test -run - -bench Counting -benchmem ./pkg/worker/internal/measure
func BenchmarkCounting(b *testing.B) {
	s := NewSet()
	l := s.Listener("http")
	a := Answer{Class: 2, In: 100, Out: 1000, Took: 3 * time.Millisecond}
	b.Run("one goroutine", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			l.InFlight.Add(1)
			l.Route("GET /users/{id}").Count(a)
			l.InFlight.Add(-1)
		}
	})
	b.Run("all processors on one route", func(b *testing.B) {
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				l.InFlight.Add(1)
				l.Route("GET /users/{id}").Count(a)
				l.InFlight.Add(-1)
			}
		})
	})
	p := NewProgram(nil)
	b.Run("a measure of the program's", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			p.Count("orders_failed", 1)
		}
	})
}
