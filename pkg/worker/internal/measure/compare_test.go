package measure

import (
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/masterd/masterd/pkg/ipc"
)

// ticking is a comparison whose tick the test sets.
func ticking(at int64) (*Comparison, *atomic.Int64) {
	c, tick := NewComparison(), new(atomic.Int64)
	tick.Store(at)
	c.clock = func() time.Duration { return time.Duration(tick.Load())*ipc.CompareTick + ipc.CompareTick/2 }
	return c, tick
}

func TestAComparisonCountsConnectionsOnce(t *testing.T) {
	c, tick := ticking(100)
	var before, stranger, early, late, twice Unit
	c.Accepted(&before)
	c.begin(&ipc.Compare{ID: 7, Since: 103})
	if r := c.report(); r.ID != 7 || r.From != 103 || r.Through != 99 || len(r.Drawn)+len(r.Failed) != 0 {
		t.Errorf("at first %+v", r)
	}
	tick.Store(102)
	c.Accepted(&early)
	tick.Store(103)
	c.Accepted(&late)
	c.Accepted(&twice)
	before.Failed()
	stranger.Failed()
	early.Failed()
	if r := c.report(); r.From != 103 || r.Through != 102 || len(r.Drawn)+len(r.Failed) != 0 {
		t.Errorf("of the tick that runs: %+v", r)
	}
	tick.Store(105)
	for range 5 {
		twice.Failed()
	}
	tick.Store(110)
	twice.Failed()
	r := c.report()
	if r.From != 103 || r.Through != 109 || !slices.Equal(r.Drawn, []uint64{103, 2}) || !slices.Equal(r.Failed, []uint64{105, 1}) {
		t.Errorf("%+v", r)
	}
	c.begin(&ipc.Compare{ID: 8, Since: 111})
	tick.Store(112)
	late.Failed() // drawn in the one before
	tick.Store(120)
	if r := c.report(); r.ID != 8 || r.From != 111 || len(r.Drawn)+len(r.Failed) != 0 {
		t.Errorf("the next one: %+v", r)
	}
	c.begin(nil)
	c.Accepted(&Unit{})
	if r := c.report(); r != nil {
		t.Errorf("after its end: %+v", r)
	}
}

// Each thing counts once for a connection, and one does not stand for another.
func TestAComparisonCountsEachThing(t *testing.T) {
	c, tick := ticking(100)
	c.begin(&ipc.Compare{ID: 7, Since: 101, Measures: []string{"orders", "carts"}})
	tick.Store(101)
	var one, two, before, stranger Unit
	c.Accepted(&one)
	c.Accepted(&two)
	before = Unit{of: c, accepted: 100}
	for _, u := range []*Unit{&one, &before, &stranger} {
		for range 2 {
			u.Failed()
			u.Slow()
			u.Counted("carts")
			u.Counted("other")
		}
	}
	tick.Store(102)
	two.Slow()
	two.Counted("orders")
	tick.Store(103)
	r := c.report()
	want := [][]uint64{{101, 1, 102, 1}, {102, 1}, {101, 1}}
	if !slices.Equal(r.Failed, []uint64{101, 1}) || !reflect.DeepEqual(r.Others, want) {
		t.Errorf("%+v, want %v", r, want)
	}
	c.begin(&ipc.Compare{ID: 8, Since: 104, Measures: []string{"carts"}})
	tick.Store(105)
	var three Unit
	c.Accepted(&three)
	three.Counted("carts")
	one.Counted("orders") // of the one before
	tick.Store(106)
	if r, want := c.report(), [][]uint64{{}, {105, 1}}; !reflect.DeepEqual(r.Others, want) {
		t.Errorf("%+v, want %v", r, want)
	}
	c.begin(nil)
	three.Counted("carts")
	three.Slow()
}

// Routes are slow by the comparison that is under way, whenever they are met first.
func TestSlowRoutes(t *testing.T) {
	s := NewSet()
	http := s.Listener("http")
	early := http.Route("/early")
	slow := func(route *Route, took time.Duration, want bool) {
		t.Helper()
		if route.Slow(took) != want {
			t.Errorf("%s of %s: %v is slow: %v", route.name, route.listener, took, !want)
		}
	}
	slow(early, time.Hour, false)
	s.Compare(&ipc.Compare{ID: 1, Slow: []ipc.SlowRoute{{Listener: "http", Route: "/early", NS: 1000}, {Listener: "http", Route: "/late", NS: 2000},
		{Listener: "http", Route: ipc.RouteOther, NS: 3000}, {Listener: "admin", Route: "/early", NS: math.MaxUint64},
		{Listener: "admin", Route: "/late", NS: 1}}})
	admin := s.Listener("admin")
	slow(early, 1000, false)
	slow(early, 1001, true)
	slow(http.Route("/late"), 2000, false)
	slow(http.Route("/late"), 2001, true)
	slow(http.Route(""), 3001, true)
	slow(http.Route("/unknown"), time.Hour, false)
	slow(admin.Route("/early"), math.MaxInt64, false)
	slow(admin.Route("/late"), 2, true)
	slow(admin.Route("/late"), -1, false) // it has become something else
	s.Compare(nil)
	for _, r := range []*Route{early, http.Route("/late"), http.Route(""), admin.Route("/late")} {
		slow(r, time.Hour, false)
	}
	s.Listener("third").Route("/late")
	slow(s.Listener("third").Route("/late"), time.Hour, false)
}

// Told late, it has not seen the whole of the tick in which that was.
func TestAComparisonThatIsToldLate(t *testing.T) {
	c, tick := ticking(50)
	c.begin(&ipc.Compare{ID: 1, Since: 40})
	var u Unit
	c.Accepted(&u)
	tick.Store(51)
	u.Failed()
	tick.Store(52)
	if r := c.report(); r.From != 51 || r.Through != 51 || len(r.Drawn) != 0 || !slices.Equal(r.Failed, []uint64{51, 1}) {
		t.Errorf("%+v", r)
	}
}

// Whatever happens, in whatever order: a tick that was told is told as it was, and no connection
// is in it twice.
func TestAComparisonDoesNotChangeWhatItHasTold(t *testing.T) {
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 1))
		c, tick := ticking(10)
		var units []*Unit
		type key struct {
			id, tick uint64
			failed   bool
		}
		told := map[key]uint64{}
		sum := map[uint64][2]uint64{}
		id := uint64(0)
		for range 400 {
			switch r.IntN(8) {
			case 0:
				tick.Add(int64(r.IntN(3)))
			case 1:
				if r.IntN(20) == 0 {
					id++
					c.begin(&ipc.Compare{ID: id, Since: tick.Load() + int64(r.IntN(4)) - 1})
				}
				if r.IntN(200) == 0 {
					tick.Add(100)
				}
			case 2, 3:
				u := &Unit{}
				if r.IntN(5) > 0 {
					c.Accepted(u)
				}
				units = append(units, u)
			case 4, 5:
				if len(units) > 0 {
					units[r.IntN(len(units))].Failed()
				}
			default:
				is := c.report()
				if is == nil {
					continue
				}
				if is.ID != id || is.Through >= tick.Load() || is.Through-is.From >= ipc.MaxCompareTicks {
					t.Fatalf("seed %d: comparison %d, at %d: %+v", seed, id, tick.Load(), is)
				}
				for i, pairs := range [][]uint64{is.Drawn, is.Failed} {
					has := map[uint64]uint64{}
					for p := 0; p < len(pairs); p += 2 {
						has[pairs[p]] = pairs[p+1]
					}
					for at := is.From; at <= is.Through; at++ {
						k := key{id, uint64(at), i == 1}
						was, known := told[k]
						if known && was != has[uint64(at)] {
							t.Fatalf("seed %d: tick %d was %d, and is %d", seed, at, was, has[uint64(at)])
						}
						if !known {
							s := sum[id]
							s[i] += has[uint64(at)]
							sum[id] = s
							told[k] = has[uint64(at)]
						}
					}
				}
			}
		}
		for id, s := range sum {
			if int(s[0]) > len(units) || int(s[1]) > len(units) {
				t.Errorf("seed %d: %d connections, and comparison %d has %v", seed, len(units), id, s)
			}
		}
	}
}

// Many at once: each connection is counted once, and none is missing.
func TestAComparisonMissesNothing(t *testing.T) {
	c, tick := ticking(1)
	c.begin(&ipc.Compare{ID: 1, Since: 2})
	tick.Store(2)
	const goroutines, each = 8, 2000
	var wg sync.WaitGroup
	for range goroutines {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for n := range each {
				u := &Unit{}
				c.Accepted(u)
				var both sync.WaitGroup
				for range 2 {
					both.Add(1)
					go func() { defer both.Done(); u.Failed() }()
				}
				both.Wait()
				if n%1000 == 0 { // fewer ticks than are told
					tick.Add(1)
				}
				if n%50 == 0 {
					c.report()
				}
			}
		}()
	}
	wg.Wait()
	tick.Add(1)
	r := c.report()
	sum := func(pairs []uint64) (n uint64) {
		for i := 1; i < len(pairs); i += 2 {
			n += pairs[i]
		}
		return n
	}
	if sum(r.Drawn) != goroutines*each || sum(r.Failed) != goroutines*each {
		t.Errorf("%d connections, %d with an error: %+v", sum(r.Drawn), sum(r.Failed), r)
	}
}

func TestComparingAllocatesNothing(t *testing.T) {
	c := NewComparison()
	c.begin(&ipc.Compare{ID: 1, Since: 0})
	units := make([]Unit, 1002)
	i := 0
	if n := testing.AllocsPerRun(1000, func() { c.Accepted(&units[i]); units[i].Failed(); i++ }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkComparison(b *testing.B) {
	c := NewComparison()
	c.begin(&ipc.Compare{ID: 1, Since: 0})
	b.ReportAllocs()
	for b.Loop() {
		var u Unit
		c.Accepted(&u)
	}
}
