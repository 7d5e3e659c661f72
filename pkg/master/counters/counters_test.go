package counters

import (
	"math"
	"math/rand/v2"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/masterd/masterd/pkg/ipc"
)

// of is a worker of a generation with two listeners.
func of(worker, generation uint64) Source {
	return Source{Worker: worker, Generation: generation, Listeners: []string{"http", "admin"}}
}

// requests are counts of one route.
func requests(ok, failed uint64, latency ...uint64) ipc.RouteCounts {
	return ipc.RouteCounts{Listener: "http", Route: "/", Status: [5]uint64{1: ok, 4: failed}, NS: ok * 1000, BytesOut: ok * 10,
		Latency: latency}
}

func routes(all ...ipc.RouteCounts) *ipc.Counts { return &ipc.Counts{Routes: all} }

// A message that is lost, comes twice, or comes after a younger one changes nothing.
func TestOnlyWhatHasGrownIsAdded(t *testing.T) {
	s := New()
	for _, n := range []uint64{3, 3, 10, 2, 10, 7, 12} {
		s.Heard(of(1, 1), routes(requests(n, 0, 5, n)), nil)
	}
	s.Heard(of(2, 1), routes(requests(5, 1, 5, 6)), nil)
	s.changed = false
	s.Heard(of(3, 2), routes(requests(1, 0)), nil)
	got := s.Snapshot()
	if !s.Changed() {
		t.Error("what is new is not to be written")
	}
	all, first := got.Service.Routes[RouteKey{"http", "/"}], got.Generations[1].Routes[RouteKey{"http", "/"}]
	if all.Status != [5]uint64{1: 18, 4: 1} || all.NS != 18000 || all.BytesOut != 180 || all.Latency[5] != 18 {
		t.Errorf("the service: %+v", all)
	}
	if first.Status != [5]uint64{1: 17, 4: 1} {
		t.Errorf("the first generation: %v", first.Status)
	}
	s.Gone(1, 1, 0, 0)
	s.Gone(2, 1, 2, 3)
	s.Retain(func(g uint64) bool { return g != 1 })
	got = s.Snapshot()
	if n := got.Service.Routes[RouteKey{"http", "/"}].Status[1]; n != 18 {
		t.Errorf("%d when they are gone", n)
	}
	if len(got.Generations) != 1 || len(got.Workers) != 1 || got.Service.Cut != 2 || got.Service.Lost != 3 {
		t.Errorf("%+v", got)
	}
	// A worker's number may come again after a stop; a generation's never does.
	s.Heard(of(3, 9), routes(requests(2, 0)), nil)
	if n := s.Snapshot().Service.Routes[RouteKey{"http", "/"}].Status[1]; n != 20 || all.Status[1] != 18 {
		t.Errorf("%d, want 20; and a snapshot that was taken at 18 says %d", n, all.Status[1])
	}
}

// What all routes have answered is one sum, whichever generation did.
func TestRequestsOfAllRoutes(t *testing.T) {
	s := New()
	other := requests(5, 2, 5, 7)
	other.Route = "/other"
	s.Heard(of(1, 1), routes(requests(3, 1, 5, 4), other), nil)
	s.Heard(of(2, 2), routes(requests(10, 0, 6, 10)), nil)
	s.Gone(1, 1, 0, 0)
	s.Retain(func(g uint64) bool { return g != 1 })
	got := s.Requests()
	if got.Status != [5]uint64{1: 18, 4: 3} || got.Latency[5] != 11 || got.Latency[6] != 10 {
		t.Errorf("%v, %d and %d of two latencies", got.Status, got.Latency[5], got.Latency[6])
	}
}

// What a worker says of this moment is kept until it says something else, or is gone.
func TestNumbersOfThisMoment(t *testing.T) {
	s := New()
	s.Heard(of(1, 1), &ipc.Counts{
		Listeners: []ipc.ListenerCounts{{Listener: "http", InFlight: 3, Open: 9, Accepted: 20},
			{Listener: "admin", InFlight: -4, Open: -1}, {Listener: "http", InFlight: 7}, {Listener: "theirs", Open: 3}},
		Measures:    []ipc.MeasureCounts{{Name: "pool_used", Observed: 1, Sum: 7, Last: 7}, {Name: "orders", Total: 2}},
		Go:          &ipc.GoCounts{Heap: 5},
		MaxInFlight: 100,
	}, &ipc.Stats{Accepted: 25, Moved: 4})
	want := Worker{Generation: 1, Listeners: []ipc.ListenerCounts{{Listener: "http", InFlight: 3, Open: 9, Accepted: 20},
		{Listener: "admin"}}, Go: &ipc.GoCounts{Heap: 5}, MaxInFlight: 100, Last: map[string]float64{"pool_used": 7}}
	got := s.Snapshot()
	if !reflect.DeepEqual(got.Workers[1], want) {
		t.Errorf("%+v", got.Workers[1])
	}
	if !reflect.DeepEqual(got.Service.Accepted, map[string]uint64{"http": 20, "admin": 0}) || got.Service.HandedOver != 4 {
		t.Errorf("%+v", got.Service)
	}
	// Nothing in it is shared, and what is left out is as it was.
	got.Workers[1].Last["pool_used"], got.Workers[1].Go.Heap, got.Workers[1].Listeners[0].Open = 1, 1, 1
	got.Service.Measures["orders"].Total = 100
	s.Heard(of(1, 1), &ipc.Counts{Listeners: want.Listeners, Go: want.Go, MaxInFlight: 100}, nil)
	got = s.Snapshot()
	if !reflect.DeepEqual(got.Workers[1], want) || *got.Service.Measures["orders"] != (Measure{Total: 2}) {
		t.Errorf("%+v, %+v", got.Workers[1], got.Service.Measures["orders"])
	}
}

// A worker that is built on an older SDK says no counts.
func TestAnOlderSDK(t *testing.T) {
	s := New()
	s.Heard(of(1, 1), nil, &ipc.Stats{Accepted: 5, Open: 3, InFlight: 2, Cut: 1, Refused: 2, SlowBodies: 3})
	s.Heard(of(1, 1), nil, &ipc.Stats{Accepted: 6, Open: 1, Cut: 1, Refused: 2, SlowBodies: 3})
	one := of(2, 1)
	one.Listeners = one.Listeners[:1]
	s.Heard(one, nil, &ipc.Stats{Accepted: 7})
	got := s.Snapshot()
	if !reflect.DeepEqual(got.Service.Accepted, map[string]uint64{"": 6, "http": 7}) {
		t.Errorf("%v", got.Service.Accepted)
	}
	if got.Service.Cut != 1 || got.Service.Refused != 2 || got.Service.SlowBodies != 3 || got.Workers[1].Listeners[0].Open != 1 {
		t.Errorf("%+v", got)
	}
}

// What a worker says is bounded, and breaks nothing.
func TestHostileWorkers(t *testing.T) {
	s := New()
	var many ipc.Counts
	for i := range 10 * ipc.MaxRoutes {
		many.Routes = append(many.Routes, ipc.RouteCounts{Listener: "http", Route: "/" + strconv.Itoa(i), Status: [5]uint64{1: 1}})
		many.Measures = append(many.Measures, ipc.MeasureCounts{Name: "m" + strconv.Itoa(i), Total: 1})
	}
	many.Routes = append(many.Routes, ipc.RouteCounts{Listener: "http", Route: ipc.RouteOther, Status: [5]uint64{1: 1}})
	s.Heard(of(1, 1), &many, nil)
	got := s.Snapshot().Service
	if len(got.Routes) != ipc.MaxRoutes+1 || len(got.Measures) != ipc.MaxMeasures {
		t.Errorf("%d routes and %d measures of one worker", len(got.Routes), len(got.Measures))
	}
	for worker := range uint64(20) { // each with names of its own
		for i := range many.Routes[:ipc.MaxRoutes] {
			many.Routes[i].Route = strconv.Itoa(i) + "of" + strconv.FormatUint(worker, 10)
			many.Measures[i].Name = "of" + strconv.FormatUint(worker, 10) + "n" + strconv.Itoa(i)
		}
		s.Heard(of(worker+2, 1), &many, nil)
	}
	got = s.Snapshot().Service
	var sum uint64
	for _, r := range got.Routes {
		sum += r.Status[1]
	}
	if len(got.Routes) != maxRoutes+1 || len(got.Measures) != maxMeasures || sum != 21*(ipc.MaxRoutes+1) {
		t.Errorf("%d routes with %d requests, %d measures", len(got.Routes), sum, len(got.Measures))
	}

	s = New()
	for i := range 3 * maxListeners {
		from := Source{Worker: uint64(i), Generation: 1, Listeners: []string{"l" + strconv.Itoa(i)}}
		s.Heard(from, &ipc.Counts{Listeners: []ipc.ListenerCounts{{Listener: from.Listeners[0], Accepted: 1}},
			Routes: []ipc.RouteCounts{{Listener: from.Listeners[0], Route: "/", Status: [5]uint64{1: 1}}}}, nil)
	}
	got = s.Snapshot().Service
	if len(got.Accepted) != maxListeners+1 || got.Accepted[noListener] != 2*maxListeners || len(got.Routes) != maxListeners+1 {
		t.Errorf("%d listeners, %d of them unnamed, %d routes", len(got.Accepted), got.Accepted[noListener], len(got.Routes))
	}

	s = New()
	var wrong []ipc.RouteCounts
	for _, name := range []string{"", "\x1b[2J", "a\nb", "\xff", strings.Repeat("x", ipc.MaxRouteName+1), "\u202e"} {
		wrong = append(wrong, ipc.RouteCounts{Listener: "http", Route: name, Status: [5]uint64{1: 1}})
	}
	wrong = append(wrong, ipc.RouteCounts{Listener: "theirs", Route: "/", Status: [5]uint64{1: 1}})
	var names []ipc.MeasureCounts
	for _, name := range []string{"", "1a", "a-b", "ä", "a b", strings.Repeat("x", ipc.MaxName+1), "@", "[", "`", "{"} {
		names = append(names, ipc.MeasureCounts{Name: name, Total: 1})
	}
	s.Heard(of(1, 1), &ipc.Counts{Routes: wrong, Measures: names, MaxInFlight: -1}, nil)
	if got := s.Snapshot(); len(got.Service.Routes) != 0 || len(got.Service.Measures) != 0 || got.Workers[1].MaxInFlight != 0 {
		t.Errorf("%+v", got)
	}
	s.Heard(of(1, 1), &ipc.Counts{Measures: []ipc.MeasureCounts{{Name: "_aZ9", Total: 1}}}, nil)
	if got := s.Snapshot().Service.Measures["_aZ9"]; got == nil || got.Total != 1 {
		t.Error("a good name is not counted")
	}
}

// Latencies that are not as they should be cost themselves, and sums never fall.
func TestHostileNumbers(t *testing.T) {
	s := New()
	s.Heard(of(1, 1), routes(requests(1, 0, ipc.LatencyBuckets, 7, math.MaxUint64, 7, 3, 2, 3, 4, 3, 1, 8)), nil)
	s.Heard(of(1, 1), &ipc.Counts{Measures: []ipc.MeasureCounts{
		{Name: "a", Observed: 1, Sum: math.Inf(1), Last: math.NaN()}, {Name: "b", Observed: 1, Sum: math.MaxFloat64}}}, nil)
	s.Heard(of(2, 1), &ipc.Counts{Measures: []ipc.MeasureCounts{{Name: "b", Observed: 2, Sum: math.MaxFloat64}}}, nil)
	s.Heard(of(2, 1), &ipc.Counts{Measures: []ipc.MeasureCounts{{Name: "b", Observed: 3, Sum: -math.MaxFloat64}}}, nil)
	if last := s.Snapshot().Workers[1].Last; len(last) != 1 {
		t.Errorf("%v", last)
	}
	s.Heard(of(1, 1), &ipc.Counts{Measures: []ipc.MeasureCounts{{Name: "a", Observed: 2, Sum: 3}}}, nil)
	got := s.Snapshot()
	r := got.Service.Routes[RouteKey{"http", "/"}]
	for bucket, n := range r.Latency {
		if want := map[int]uint64{3: 4}[bucket]; n != want {
			t.Errorf("bucket %d has %d", bucket, n)
		}
	}
	a, b := got.Service.Measures["a"], got.Service.Measures["b"]
	if *a != (Measure{Observed: 2, Sum: 3}) || *b != (Measure{Observed: 4, Sum: math.MaxFloat64}) {
		t.Errorf("%+v, %+v", a, b)
	}
	s.Heard(of(1, 1), routes(requests(math.MaxUint64, 1)), &ipc.Stats{Cut: math.MaxUint64})
	s.Heard(of(2, 1), routes(requests(3, 1)), &ipc.Stats{Cut: 5})
	s.Gone(2, 1, 9, 9)
	got = s.Snapshot()
	if n := got.Service.Routes[RouteKey{"http", "/"}].Status; n != [5]uint64{1: math.MaxUint64, 4: 2} || got.Service.Cut != math.MaxUint64 {
		t.Errorf("%v, %d", n, got.Service.Cut)
	}
}

// A stage is counted when the rollout has left it.
func TestStagesAndOutcomes(t *testing.T) {
	s := New()
	now := time.Unix(1000, 0)
	later := func(d time.Duration) time.Time { now = now.Add(d); return now }
	s.Entered(7, "prepare", now)
	s.Entered(7, "prepare", later(time.Second)) // it says more of the same
	s.Entered(7, "bake", later(time.Second))
	s.Entered(8, "prepare", later(time.Second))
	s.Ended(7, Outcome{"reload", "done"}, later(5*time.Second))
	s.Ended(8, Outcome{"reload", "failed"}, later(-time.Hour)) // somebody has set the clock
	s.Ended(0, Outcome{"rollback", "done"}, now)
	got := s.Snapshot()
	if want := map[string]Duration{"prepare": {2, 2}, "bake": {1, 6}}; !reflect.DeepEqual(got.Stages, want) {
		t.Errorf("%v", got.Stages)
	}
	if want := map[Outcome]uint64{{"reload", "done"}: 1, {"reload", "failed"}: 1, {"rollback", "done"}: 1}; !reflect.DeepEqual(
		got.Rollouts, want) {
		t.Errorf("%v", got.Rollouts)
	}
	for i := range uint64(1000) {
		name := strconv.FormatUint(i, 10)
		s.Entered(i, name, now)
		s.Entered(i, name+"b", now)
		s.Ended(0, Outcome{name, name}, now)
	}
	got = s.Snapshot()
	if len(got.Stages) != maxStages || len(got.Rollouts) != maxOutcomes || len(s.underWay) != maxUnderWay {
		t.Errorf("%d stages, %d outcomes, %d under way", len(got.Stages), len(got.Rollouts), len(s.underWay))
	}
}

// saveAndRestore is a change of the master.
func saveAndRestore(t testing.TB, s *Set, there func(worker, generation uint64) bool) *Set {
	t.Helper()
	text, err := s.Save().Encode("boot")
	if err != nil {
		t.Fatal(err)
	}
	next := New()
	if err := next.Restore(text, "boot", there); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return next
}

// Whatever happens to workers and masters, no sum falls, and at the end each is what was counted,
// but for what workers have counted since their last word when they died, and since the last
// write when they died while there was no master.
func TestWhateverHappensNoSumFalls(t *testing.T) {
	for seed := range uint64(40) {
		random := rand.New(rand.NewPCG(seed, 1))
		s := New()
		type life struct {
			from     Source
			is, said ipc.Counts
		}
		var live []*life
		var next, generation uint64
		var want struct{ requests, accepted, measured, slow uint64 }
		count := func(c ipc.Counts, sign uint64) {
			want.accepted += sign * c.Listeners[0].Accepted
			want.requests += sign * c.Routes[0].Status[1]
			want.measured += sign * c.Measures[0].Total
			want.slow += sign * c.Routes[0].Latency[1]
		}
		clone := func(c ipc.Counts) ipc.Counts {
			c.Listeners = append([]ipc.ListenerCounts(nil), c.Listeners...)
			c.Routes = append([]ipc.RouteCounts(nil), c.Routes...)
			c.Routes[0].Latency = append([]uint64(nil), c.Routes[0].Latency...)
			c.Measures = append([]ipc.MeasureCounts(nil), c.Measures...)
			return c
		}
		hear := func(l *life) {
			count(l.said, math.MaxUint64) // minus one
			l.said = clone(l.is)
			count(l.said, 1)
			c := clone(l.is)
			s.Heard(l.from, &c, &ipc.Stats{Accepted: 77})
		}
		var before Totals
		for range 400 {
			switch k := random.IntN(10); {
			case len(live) == 0 || k == 0:
				next++
				if random.IntN(3) == 0 {
					generation++
				}
				empty := ipc.Counts{Listeners: []ipc.ListenerCounts{{Listener: "http"}}, Routes: []ipc.RouteCounts{requests(0, 0, 9, 0)},
					Measures: []ipc.MeasureCounts{{Name: "orders"}}}
				live = append(live, &life{from: of(next, generation), is: empty, said: clone(empty)})
			case k < 5: // it counts
				l := live[random.IntN(len(live))]
				n := random.Uint64N(1000)
				l.is.Listeners[0].Accepted += n / 3
				l.is.Routes[0].Status[1] += n
				l.is.Routes[0].Latency[1] += n
				l.is.Measures[0].Total += n / 2
			case k < 7:
				hear(live[random.IntN(len(live))])
			case k == 7: // what it said comes again, or something older
				l := live[random.IntN(len(live))]
				c := clone(l.said)
				if random.IntN(2) == 0 {
					c.Routes[0].Status[1] /= 2
					c.Listeners[0].Accepted /= 2
				}
				s.Heard(l.from, &c, nil)
			case k == 8: // a death
				i := random.IntN(len(live))
				s.Gone(live[i].from.Worker, live[i].from.Generation, 0, 0)
				live = append(live[:i], live[i+1:]...)
				s.Retain(func(g uint64) bool { return g+3 > generation })
			default: // another master; somebody may die meanwhile
				if random.IntN(2) == 0 {
					i := random.IntN(len(live))
					live = append(live[:i], live[i+1:]...)
				}
				s = saveAndRestore(t, s, func(worker, generation uint64) bool {
					for _, l := range live {
						if l.from.Worker == worker && l.from.Generation == generation {
							return true
						}
					}
					return false
				})
			}
			now := s.Snapshot().Service
			for k, r := range before.Routes {
				for i, n := range r.Status {
					if now.Routes[k].Status[i] < n || now.Routes[k].Latency[9] < r.Latency[9] {
						t.Fatalf("seed %d: %v fell from %v to %v", seed, k, r.Status, now.Routes[k].Status)
					}
				}
			}
			if now.Accepted["http"] < before.Accepted["http"] {
				t.Fatalf("seed %d: accepted fell", seed)
			}
			before = now
		}
		for _, l := range live {
			hear(l)
		}
		got := s.Snapshot().Service
		if want.requests == 0 {
			continue
		}
		r := got.Routes[RouteKey{"http", "/"}]
		if r.Status[1] != want.requests || r.Latency[9] != want.slow || got.Accepted["http"] != want.accepted ||
			got.Measures["orders"].Total != want.measured || got.Accepted[noListener] != 0 {
			t.Fatalf("seed %d: %v, %d, %v, %+v; want %+v", seed, r.Status, r.Latency[9], got.Accepted, got.Measures["orders"], want)
		}
	}
}

// A pause is seen by who looks once a minute, and not for ever.
func TestLongestPauseIsRemembered(t *testing.T) {
	s := New()
	beat := func(ns uint64) uint64 {
		s.Heard(of(1, 1), &ipc.Counts{Go: &ipc.GoCounts{PauseMaxNS: ns}}, nil)
		return s.Snapshot().Workers[1].LongestPauseNS
	}
	beat(3)
	beat(300)
	for n := range pauseBeats {
		if got := beat(5); got != 300 {
			t.Fatalf("after %d beats it is %d", n+1, got)
		}
	}
	for range 2 * pauseBeats {
		beat(5)
	}
	if got := beat(4); got != 5 {
		t.Errorf("after three minutes of beats it is %d", got)
	}
}
