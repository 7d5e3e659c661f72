package worker

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestRegisterTellsAges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRegister()
		if a := r.ages(); a != (ages{}) {
			t.Errorf("at first: %+v", a)
		}
		oldest := r.begin(1)
		time.Sleep(10 * time.Second)
		middle := r.begin(2)
		time.Sleep(2 * time.Second)
		r.end(r.begin(3))
		youngest := r.begin(4)
		time.Sleep(time.Second)
		a := r.ages()
		if a.count != 3 || a.longest.Round(time.Second) != 13*time.Second || a.median.Round(time.Second) != 3*time.Second {
			t.Errorf("%+v", a)
		}
		r.end(oldest)
		if a := r.ages(); a.count != 2 || a.longest.Round(time.Second) != 3*time.Second {
			t.Errorf("without the oldest: %+v", a)
		}
		r.end(middle)
		r.end(youngest)
		if a := r.ages(); a != (ages{}) {
			t.Errorf("in the end: %+v", a)
		}
	})
}

// More than the table has room for, and numbers that collide: none is lost.
func TestRegisterHoldsMoreThanItsTable(t *testing.T) {
	r := newRegister()
	const all = 3 * registerCells
	var held []*begun
	for n := range uint64(all) {
		held = append(held, r.begin(n%7))
	}
	if a := r.ages(); a.count != all {
		t.Errorf("%d of %d are known", a.count, all)
	}
	for _, c := range held {
		r.end(c)
	}
	if a := r.ages(); a.count != 0 || len(r.more) != 0 {
		t.Errorf("%+v are left, %d in the map", a, len(r.more))
	}
}

func TestRegisterTakesManyAtOnce(t *testing.T) {
	r := newRegister()
	var wg sync.WaitGroup
	for g := range uint64(8) {
		wg.Go(func() {
			for n := range uint64(2000) {
				a, b := r.begin(n), r.begin(n+g)
				if a == b {
					t.Error("one cell for two requests")
				}
				r.end(a)
				r.end(b)
			}
		})
	}
	for range 20 {
		r.ages()
	}
	wg.Wait()
	if a := r.ages(); a.count != 0 {
		t.Errorf("%+v are left", a)
	}
}
