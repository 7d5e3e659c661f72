package counters

import (
	"bytes"
	"encoding/json"
	"math"
	"os"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/masterd/masterd/pkg/ipc"
)

func all(uint64, uint64) bool { return true }

// full is a set in which everything is there.
func full() *Set {
	s := New()
	s.Heard(of(3, 1), &ipc.Counts{
		Listeners: []ipc.ListenerCounts{{Listener: "http", InFlight: 1, Open: 2, Accepted: 30}},
		Routes: []ipc.RouteCounts{requests(5, 1, 7, 4, 100, 2), {Listener: "admin", Route: ipc.RouteOther,
			Status: [5]uint64{2: 9}, BytesIn: 11}},
		Measures: []ipc.MeasureCounts{{Name: "orders", Total: 8}, {Name: "pool", Observed: 2, Sum: 1.5, Last: 1}},
	}, &ipc.Stats{Moved: 1, Cut: 2, Refused: 3, SlowBodies: 4})
	s.Gone(2, 1, 0, 6)
	s.Heard(of(4, 2), nil, &ipc.Stats{Accepted: 5})
	s.Restarted()
	s.Entered(1, "bake", time.Unix(1000, 5).UTC())
	s.Entered(1, "baked", time.Unix(1002, 5).UTC())
	s.Ended(1, Outcome{"reload", "done"}, time.Unix(1003, 0).UTC())
	s.Entered(2, "prepare", time.Unix(1004, 0).UTC())
	return s
}

// What the next master reads is what this one had, but for what workers say of the moment.
func TestSavedIsRestored(t *testing.T) {
	s := full()
	if !s.Changed() {
		t.Error("nothing has changed")
	}
	next := saveAndRestore(t, s, all)
	if s.Changed() || next.Changed() {
		t.Error("it has changed since it was saved")
	}
	want, got := s.Snapshot(), next.Snapshot()
	if want.Workers = map[uint64]Worker{}; !reflect.DeepEqual(got, want) {
		t.Errorf("%+v\nwant %+v", got, want)
	}
	// What was said before is not added again; what is new is.
	for range 2 {
		next.Heard(of(3, 1), routes(requests(6, 1, 7, 5, 100, 2)), &ipc.Stats{Moved: 2, Cut: 2, Accepted: 99})
		next.Heard(of(4, 2), nil, &ipc.Stats{Accepted: 6})
	}
	next.Ended(2, Outcome{"reload", "failed"}, time.Unix(1010, 0))
	got = next.Snapshot()
	r := got.Service.Routes[RouteKey{"http", "/"}]
	if r.Status != [5]uint64{1: 6, 4: 1} || r.Latency[7] != 5 || got.Service.HandedOver != 2 || got.Service.Cut != 2 {
		t.Errorf("%+v", got.Service)
	}
	if !reflect.DeepEqual(got.Service.Accepted, map[string]uint64{"http": 30, "": 6}) || got.Stages["prepare"] != (Duration{1, 6}) {
		t.Errorf("%+v, %+v", got.Service.Accepted, got.Stages)
	}
	// A worker that is not there any more has left its part.
	if other := saveAndRestore(t, s, func(worker, _ uint64) bool { return worker == 3 }); len(other.workers) != 1 {
		t.Errorf("%d workers", len(other.workers))
	}
	// Rollouts that nobody goes on with are forgotten.
	next = saveAndRestore(t, s, all)
	next.Abandon()
	next.Entered(2, "check", time.Unix(9000, 0))
	if _, counted := next.Snapshot().Stages["prepare"]; counted {
		t.Error("a stage of another rollout was counted")
	}
}

// The file of the first form is read for ever. It is never written anew: see CONTRIBUTING.md.
func TestTheFirstFormIsRead(t *testing.T) {
	text, err := os.ReadFile("testdata/counters-v1.json")
	if err != nil {
		t.Fatal(err)
	}
	s := New()
	if err := s.Restore(text, "boot", all); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(s.Snapshot(), saveAndRestore(t, full(), all).Snapshot()) || !reflect.DeepEqual(s.underWay, full().underWay) {
		t.Errorf("%+v", s.Snapshot())
	}
	now, err := s.Save().Encode("boot")
	var indented bytes.Buffer
	if err == nil {
		err = json.Indent(&indented, now, "", " ")
	}
	if err != nil || indented.String() != strings.TrimSpace(string(text)) {
		t.Errorf("it is written as\n%s\n%v", indented.String(), err)
	}
}

// What cannot be read leaves the set as it was.
func TestWhatCannotBeRead(t *testing.T) {
	good, err := full().Save().Encode("boot")
	if err != nil {
		t.Fatal(err)
	}
	for what, text := range map[string]string{
		"it is damaged":                            string(good[:len(good)/2]),
		"it is damaged: it has no schema number":   `{"boot":"boot"}`,
		"a newer masterd wrote it (schema 2, this": strings.Replace(string(good), `"schema":1`, `"schema":2,"service":7`, 1),
		"it is of another boot":                    strings.Replace(string(good), `"boot":"boot"`, `"boot":"b"`, 1),
		"it is damaged: json":                      `{"schema":1,"boot":"boot","service":{"cut":5},"generations":[{"id":1}],"restarts":-1}`,
	} {
		s := New()
		if err := s.Restore([]byte(text), "boot", all); err == nil || !strings.HasPrefix(err.Error(), what) {
			t.Errorf("%v, want %q", err, what)
		}
		if !reflect.DeepEqual(s, New()) {
			t.Errorf("%s: %+v", what, s)
		}
	}
}

// FuzzRestore reads whatever lies there: it is refused, or goes on as it was read.
func FuzzRestore(f *testing.F) {
	good, err := full().Save().Encode("boot")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(`{"schema":1,"boot":"boot","service":{"accepted":{"a":18446744073709551615},"routes":[{"latency":[1]}]}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		s := New()
		if err := s.Restore(text, "boot", all); err != nil {
			if !reflect.DeepEqual(s, New()) {
				t.Errorf("it is refused, and %+v", s)
			}
			return
		}
		bounded(t, s)
		if next := saveAndRestore(t, s, all); !reflect.DeepEqual(next.Snapshot(), s.Snapshot()) {
			t.Errorf("%+v became %+v", s.Snapshot(), next.Snapshot())
		}
	})
}

// FuzzHeard hears whatever a worker says: sums never fall, and are bounded.
func FuzzHeard(f *testing.F) {
	for _, c := range []ipc.Counts{{}, {Routes: []ipc.RouteCounts{requests(3, 1, 5, 4), requests(2, 2, 5, 9)},
		Listeners: []ipc.ListenerCounts{{Listener: "http", Accepted: math.MaxUint64}},
		Measures:  []ipc.MeasureCounts{{Name: "a", Observed: 1, Sum: math.MaxFloat64}}}} {
		text, err := json.Marshal(ipc.Message{Counts: &c, Stats: &ipc.Stats{Cut: 3}})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text, text)
	}
	f.Fuzz(func(t *testing.T, first, second []byte) {
		s := New()
		for i, text := range [][]byte{first, second, first, second} {
			var m ipc.Message
			if json.Unmarshal(text, &m) != nil {
				return
			}
			before := s.Snapshot()
			s.Heard(of(uint64(i%2), uint64(i%2)), m.Counts, m.Stats)
			after := s.Snapshot()
			notFallen(t, before.Service, after.Service)
			if i > 1 && m.Counts != nil && !reflect.DeepEqual(before.Service, after.Service) {
				t.Errorf("the same again adds: %+v became %+v", before.Service, after.Service)
			}
		}
		bounded(t, s)
		saveAndRestore(t, s, all)
	})
}

// bounded: no sum has more than it may.
func bounded(t *testing.T, s *Set) {
	t.Helper()
	for _, sum := range append([]*totals{s.service}, generations(s)...) {
		if len(sum.Routes) > maxRoutesInAll+maxListeners+1 || len(sum.Measures) > maxMeasures || len(sum.Accepted) > maxListeners+1 {
			t.Errorf("%d routes, %d measures, %d listeners", len(sum.Routes), len(sum.Measures), len(sum.Accepted))
		}
	}
	for _, w := range s.workers {
		for listener, routes := range w.routes {
			if len(routes) > ipc.MaxRoutes+1 || len(w.measures) > ipc.MaxMeasures {
				t.Errorf("%d routes of %s, %d measures", len(routes), listener, len(w.measures))
			}
		}
	}
}

func generations(s *Set) (all []*totals) {
	for _, g := range s.generations {
		all = append(all, g)
	}
	return all
}

func notFallen(t *testing.T, before, after Totals) {
	t.Helper()
	for k, was := range before.Routes {
		is := after.Routes[k]
		if is == nil || is.NS < was.NS || is.BytesIn < was.BytesIn || is.BytesOut < was.BytesOut {
			t.Fatalf("%v: %+v became %+v", k, was, is)
		}
		for i := range was.Latency {
			if is.Latency[i] < was.Latency[i] || is.Status[i%5] < was.Status[i%5] {
				t.Fatalf("%v: %+v became %+v", k, was, is)
			}
		}
	}
	for l, n := range before.Accepted {
		if after.Accepted[l] < n {
			t.Fatalf("%s: %d became %d", l, n, after.Accepted[l])
		}
	}
	for name, m := range before.Measures {
		if is := after.Measures[name]; is == nil || is.Total < m.Total || is.Observed < m.Observed {
			t.Fatalf("%s: %+v became %+v", name, m, is)
		}
	}
	if after.Cut < before.Cut || after.HandedOver < before.HandedOver || after.Refused < before.Refused {
		t.Fatalf("%+v became %+v", before, after)
	}
}

// large is what 64 workers with 20 routes have said.
func large() (*Set, ipc.Counts) {
	c := ipc.Counts{Listeners: []ipc.ListenerCounts{{Listener: "http"}}}
	for i := range 20 {
		r := requests(1, 0)
		r.Route = "/" + strconv.Itoa(i)
		for bucket := range uint64(40) {
			r.Latency = append(r.Latency, 60+bucket, 1)
		}
		c.Routes = append(c.Routes, r)
	}
	s := New()
	for id := range uint64(64) {
		s.Heard(of(id, id%2), &c, &ipc.Stats{})
	}
	return s, c
}

func BenchmarkSnapshot(b *testing.B) {
	s, _ := large()
	for b.Loop() {
		s.Snapshot()
	}
}

func BenchmarkSave(b *testing.B) {
	s, _ := large()
	for b.Loop() {
		s.Save()
	}
}

func BenchmarkEncode(b *testing.B) {
	s, _ := large()
	saved := s.Save()
	for b.Loop() {
		text, err := saved.Encode("boot")
		if err != nil {
			b.Fatal(err)
		}
		b.SetBytes(int64(len(text)))
	}
}

func BenchmarkHeard(b *testing.B) {
	s, c := large()
	for b.Loop() {
		for i := range c.Routes {
			c.Routes[i].Status[1]++
		}
		s.Heard(of(1, 1), &c, &ipc.Stats{})
	}
}
