package serve

import (
	"testing"
	"time"

	"github.com/masterd/masterd/pkg/worker/internal/tasks"
)

func TestRegisterTellsAges(t *testing.T) {
	r := newRequestTimes()
	pass := func(d time.Duration) { r.since = r.since.Add(-d) } // as if it had been made earlier
	if a := r.durations(); a != (Durations{}) {
		t.Errorf("at first: %+v", a)
	}
	r.begin(1)
	pass(10 * time.Minute)
	r.begin(2)
	pass(2 * time.Minute)
	r.begin(3)
	r.end(3)
	r.begin(4)
	pass(time.Minute)
	a := r.durations()
	if a.Count != 3 || a.Longest.Round(time.Minute) != 13*time.Minute || a.Median.Round(time.Minute) != 3*time.Minute {
		t.Errorf("%+v", a)
	}
	r.end(1)
	if a := r.durations(); a.Count != 2 || a.Longest.Round(time.Minute) != 3*time.Minute {
		t.Errorf("without the oldest: %+v", a)
	}
	r.end(2)
	r.end(4)
	if a := r.durations(); a != (Durations{}) {
		t.Errorf("in the end: %+v", a)
	}
}

// Thousands at one time, all behind one lock: none is lost.
func TestRegisterHoldsMoreThanItsTable(t *testing.T) {
	r := newRequestTimes()
	const all = 3 << 12
	for n := range uint64(all) {
		r.begin(n * timesShards)
	}
	if a := r.durations(); a.Count != all {
		t.Errorf("%d of %d are known", a.Count, all)
	}
	for n := range uint64(all) {
		r.end(n * timesShards)
	}
	if a := r.durations(); a.Count != 0 {
		t.Errorf("%+v are left", a)
	}
}

func TestRegisterTakesManyAtOnce(t *testing.T) {
	r := newRequestTimes()
	var wg tasks.Group
	for g := range uint64(8) {
		wg.Go(func() {
			for n := range uint64(2000) {
				a := 2 * (g*2000 + n)
				b := a + 1
				r.begin(a)
				r.begin(b)
				if r.durations().Count < 2 {
					t.Error("two run, and fewer are known")
				}
				r.end(a)
				r.end(b)
			}
		})
	}
	for range 20 {
		r.durations()
	}
	wg.Wait()
	if a := r.durations(); a.Count != 0 {
		t.Errorf("%+v are left", a)
	}
}
