package compare

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/masterd/masterd/pkg/ipc"
	"github.com/masterd/masterd/pkg/master/analysis"
)

// restored is what the next master has.
func restored(t testing.TB, s *Set) *Set {
	t.Helper()
	text, next := s.Saved(), New()
	if err := next.Restore(text); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return next
}

// full is a set in which everything is there.
func full() *Set {
	s := New()
	for i, weight := range []float64{0.01, 0.1} {
		id := s.Begin(Settings{Alpha: 0.01, Measures: errorsAt(1.5), Delay: 3 * time.Second}, interval1(weight), time.Duration(90+i)*time.Second).ID
		for w := uint64(1); w <= 4; w++ {
			s.Heard(w, said(id, 100, 100, []uint64{100, 10 + w}, []uint64{100, w / 3}), far)
		}
	}
	return s
}

func TestSavedIsRestored(t *testing.T) {
	s := full()
	next := restored(t, s)
	s.End()
	want, _ := s.Result()
	if got, ok := next.Result(); !ok || !reflect.DeepEqual(got, want) || got.Measures[Errors].Candidate != (Side{46, 0}) ||
		got.Measures[Errors].Stable.Had != 4 {
		t.Errorf("%+v, want %+v", got, want)
	}
	// It goes on with what is known, and remembers when it began.
	c := next.Begin(settings, interval1(0.1), 91*time.Second)
	if c.Since != 93 || !reflect.DeepEqual(next.rollout, s.rollout) {
		t.Errorf("since %d, %+v", c.Since, next.rollout)
	}
	// What is there is replaced.
	if err := next.Restore(full().Saved()); err != nil || next.interval != nil {
		t.Errorf("%v, %+v", err, next.interval)
	}
	// A time that has not come is none.
	next = New()
	if err := next.Restore([]byte(`{"schema":1,"rollout":7,"alpha":0.1,"ratio":1,"first_ns":9223372036854775807}`)); err != nil {
		t.Fatal(err)
	}
	if c := next.Begin(settings, interval1(0.1), 99*time.Second); c.Since != 100 {
		t.Errorf("since %d", c.Since)
	}
}

// The first form is read for ever. It is never written anew: see CONTRIBUTING.md.
func TestTheFirstFormIsRead(t *testing.T) {
	text, err := os.ReadFile("testdata/compare-v1.json")
	if err != nil {
		t.Fatal(err)
	}
	s := New()
	if err := s.Restore(text); err != nil || !reflect.DeepEqual(s.rollout, full().rollout) {
		t.Errorf("%v, %+v", err, s.rollout)
	}
	if now := string(full().Saved()); now != strings.TrimSpace(string(text)) {
		t.Errorf("it is written as\n%s", now)
	}
}

// A verdict stands, whatever another release reckons.
func TestAVerdictIsRestored(t *testing.T) {
	s := New()
	if err := s.Restore([]byte(`{"schema":1,"rollout":7,"alpha":0.01,"ratio":1.5,"failed":123}`)); err != nil {
		t.Fatal(err)
	}
	r, _ := restored(t, s).Result()
	if r.Outcome != analysis.Fail || r.Evidence != 123 || r.Wanted != 100 {
		t.Errorf("%+v", r)
	}
}

// Of what cannot be read nothing is known.
func TestWhatCannotBeRead(t *testing.T) {
	good := string(full().Saved())
	change := func(old, by string) string {
		text := strings.Replace(good, old, by, 1)
		if text == good {
			t.Fatalf("%s is not in %s", old, good)
		}
		return text
	}
	var many []string
	for i := range maxWeights + 1 {
		many = append(many, fmt.Sprintf(`{"weight":%v}`, float64(i+1)/1000))
	}
	begin := `{"schema":1,"rollout":7,"alpha":0.01,"ratio":1.5,"weights":[`
	for want, texts := range map[string][]string{
		"it is damaged":                            {"", good[:len(good)/2], good + good, change(`"drawn":[23`, `"drawn":[-1`), change("0.01", "NaN"), "[]"},
		"it is damaged: it has no schema number":   {"{}", "null", `{"schema":-1}`},
		"a newer masterd wrote it (schema 2, this": {change(`"schema":1`, `"schema":2`)},
		"it is damaged: an alpha of": {`{"schema":1}`, change(`"alpha":0.01`, `"alpha":1`), change(`"alpha":0.01`, `"alpha":-0.01`),
			change(`"alpha":0.01`, `"alpha":1e-320`)},
		"it is damaged: a ratio of":    {change(`"ratio":1.5`, `"ratio":-1`), change(`"ratio":1.5`, `"ratio":1e300`)},
		"it is damaged: a delay of":    {change(`"first_ns":9`, `"first_ns":-9`), change(`"delay_ns":3`, `"delay_ns":-3`), change(`"delay_ns":3`, `"delay_ns":900000003`)},
		"it is damaged: it has failed": {change(`"weights"`, `"failed":99,"weights"`), change(`"weights"`, `"failed":-1,"weights"`)},
		"it is damaged: 65 weights":    {begin + strings.Join(many, ",") + "]}"},
		"it is damaged: its weight": {begin + `{"weight":0}]}`, begin + `{"weight":1}]}`, begin + `{"weight":-0.5}]}`,
			begin + many[0] + "," + many[0] + "]}", begin + `{"weight":0.1,"drawn":[1,1],"failed":[2,0]}]}`,
			begin + `{"weight":0.1,"drawn":[1,1],"failed":[0,2]}]}`},
	} {
		for _, text := range texts {
			s := full()
			err := s.Restore([]byte(text))
			if err == nil || !strings.HasPrefix(err.Error(), want) {
				t.Errorf("%v, want %q: %s", err, want, text)
			}
			if _, ok := s.Result(); ok || s.Saved() != nil || s.interval != nil {
				t.Errorf("%s: something is known", text)
			}
		}
	}
}

// FuzzRestore reads whatever lies there: it is refused, or goes on as it was read.
func FuzzRestore(f *testing.F) {
	f.Add(full().Saved())
	f.Add([]byte(`{"schema":1,"rollout":7,"alpha":1e-300,"ratio":1.5,"failed":1.7e308,"weights":[{"weight":0.9999999999999999,` +
		`"drawn":[18446744073709551615,18446744073709551615],"failed":[18446744073709551615,0]}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		s := New()
		if err := s.Restore(text); err != nil {
			if s.rollout != nil {
				t.Errorf("it is refused, and %+v", s.rollout)
			}
			return
		}
		sound(t, s)
		id := s.Begin(settings, Interval{Rollout: s.rollout.id, Weight: 0.3, Candidate: []uint64{1}, Stable: []uint64{2}}, math.MaxInt64/2).ID
		for w := uint64(1); w <= 2; w++ {
			s.Heard(w, said(id, s.interval.since, math.MaxInt64, []uint64{uint64(s.interval.since), 9}, nil), math.MaxInt64)
		}
		sound(t, s)
	})
}

// FuzzHeard hears whatever workers say: what was counted never falls, the same again adds nothing,
// and at most so much is counted as there was time for.
func FuzzHeard(f *testing.F) {
	for _, c := range []ipc.Compared{
		{From: 100, Through: 103, Drawn: []uint64{100, 5, 102, 9}, Failed: []uint64{101, 1}},
		{From: 102, Through: 140, Drawn: []uint64{140, math.MaxUint64, 139}, Failed: []uint64{139, 7, 138, 1}},
		{From: math.MinInt64, Through: math.MaxInt64, Drawn: []uint64{199, 1}},
		{From: 100, Through: 104, Drawn: []uint64{100, 5}, Others: [][]uint64{{101, 1}, {102, math.MaxUint64, 102, 1}, {99}, {100, 1}}},
	} {
		text, err := json.Marshal(c)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text, text, uint16(3))
	}
	f.Fuzz(func(t *testing.T, first, second []byte, step uint16) {
		s, c := ofSeveral(slowRoute)
		var all [2]ipc.Compared
		if json.Unmarshal(first, &all[0]) != nil || json.Unmarshal(second, &all[1]) != nil {
			return
		}
		all[0].ID, all[1].ID = c.ID, c.ID
		now := 100 * time.Second
		for i := range uint64(24) {
			before, _ := s.Result()
			told := all[i/4%2]
			more := s.Heard(i%4+1, &told, now)
			after, _ := s.Result()
			if changed := !reflect.DeepEqual(before.Measures, after.Measures); changed != more {
				t.Fatalf("more is known: %v; %+v became %+v", more, before, after)
			}
			for k, was := range before.Measures {
				is := after.Measures[k]
				for _, x := range [][2]Side{{was.Candidate, is.Candidate}, {was.Stable, is.Stable}} {
					if x[1].Drawn < x[0].Drawn || x[1].Had < x[0].Had {
						t.Fatalf("%+v became %+v", before, after)
					}
				}
			}
			if s.Heard(i%4+1, &told, now) {
				t.Fatal("the same again adds something")
			}
			passed := uint64(now/time.Second) - 100
			// Two workers, and as many errors of none that was drawn.
			if after.Measures[Errors].Candidate.Drawn > 4*passed*maxInTick {
				t.Fatalf("%+v in %d ticks", after, passed)
			}
			now += time.Duration(step) * time.Second / 2
		}
		sound(t, s)
	})
}

// sound: it is bounded, possible, and what the next master reads.
func sound(t *testing.T, s *Set) {
	t.Helper()
	r, _ := s.Result()
	if math.IsNaN(r.Evidence) || r.Evidence < 0 || len(r.Measures) != len(r.Settings.Measures) {
		t.Errorf("%+v", r)
	}
	for i, m := range r.Measures {
		if math.IsNaN(m.Evidence) || m.Evidence < 0 || m.Candidate.Had > m.Candidate.Drawn || m.Stable.Had > m.Stable.Drawn {
			t.Errorf("%+v", m)
		}
		of, n := s.rollout.measures[i], len(s.rollout.weights)
		if n > maxWeights || len(of.drawn) != n || len(of.had) != n {
			t.Errorf("%d and %d of %d weights", len(of.drawn), len(of.had), n)
		}
	}
	if _, err := json.Marshal(r); err != nil {
		t.Error(err)
	}
	if next := restored(t, s); !reflect.DeepEqual(next.rollout, s.rollout) {
		t.Errorf("%+v became %+v", s.rollout, next.rollout)
	}
}
