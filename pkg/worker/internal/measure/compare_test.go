package measure

import (
	"math/rand/v2"
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
	c.Begin(&ipc.Compare{ID: 7, Since: 103})
	if r := c.report(); r.ID != 7 || r.From != 103 || r.Through != 99 || len(r.Drawn)+len(r.Failed) != 0 {
		t.Errorf("at first %+v", r)
	}
	tick.Store(102)
	c.Accepted(&early)
	tick.Store(103)
	c.Accepted(&late)
	c.Accepted(&twice)
	c.Failed(&before)
	c.Failed(&stranger)
	c.Failed(&early)
	if r := c.report(); r.From != 103 || r.Through != 102 || len(r.Drawn)+len(r.Failed) != 0 {
		t.Errorf("of the tick that runs: %+v", r)
	}
	tick.Store(105)
	for range 5 {
		c.Failed(&twice)
	}
	tick.Store(110)
	c.Failed(&twice)
	r := c.report()
	if r.From != 103 || r.Through != 109 || !slices.Equal(r.Drawn, []uint64{103, 2}) || !slices.Equal(r.Failed, []uint64{105, 1}) {
		t.Errorf("%+v", r)
	}
	c.Begin(&ipc.Compare{ID: 8, Since: 111})
	tick.Store(112)
	c.Failed(&late) // drawn in the one before
	tick.Store(120)
	if r := c.report(); r.ID != 8 || r.From != 111 || len(r.Drawn)+len(r.Failed) != 0 {
		t.Errorf("the next one: %+v", r)
	}
	c.Begin(nil)
	c.Accepted(&Unit{})
	if r := c.report(); r != nil {
		t.Errorf("after its end: %+v", r)
	}
}

// Told late, it has not seen the whole of the tick in which that was.
func TestAComparisonThatIsToldLate(t *testing.T) {
	c, tick := ticking(50)
	c.Begin(&ipc.Compare{ID: 1, Since: 40})
	var u Unit
	c.Accepted(&u)
	tick.Store(51)
	c.Failed(&u)
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
					c.Begin(&ipc.Compare{ID: id, Since: tick.Load() + int64(r.IntN(4)) - 1})
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
					c.Failed(units[r.IntN(len(units))])
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
	c.Begin(&ipc.Compare{ID: 1, Since: 2})
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
					go func() { defer both.Done(); c.Failed(u) }()
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
	c.Begin(&ipc.Compare{ID: 1, Since: 0})
	units := make([]Unit, 1002)
	i := 0
	if n := testing.AllocsPerRun(1000, func() { c.Accepted(&units[i]); c.Failed(&units[i]); i++ }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkComparison(b *testing.B) {
	c := NewComparison()
	c.Begin(&ipc.Compare{ID: 1, Since: 0})
	b.ReportAllocs()
	for b.Loop() {
		var u Unit
		c.Accepted(&u)
	}
}
