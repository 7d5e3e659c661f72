package session

import (
	"testing"
	"time"

	"github.com/masterd/masterd/pkg/ipc"
)

func TestAllowance(t *testing.T) {
	var a allowance
	now := time.Unix(1_800_000_000, 0)
	taken := func(times int) (n int) {
		for range times {
			if a.take(now, countsBurst, countsEvery) {
				n++
			}
		}
		return n
	}
	if n := taken(1000); n != countsBurst {
		t.Errorf("%d at once", n)
	}
	for range 10 {
		if now = now.Add(countsEvery - time.Millisecond); taken(5) > 1 {
			t.Error("more than one has come back")
		}
	}
	now = now.Add(-time.Hour) // a clock that goes back gives nothing
	if n := taken(5); n != 0 {
		t.Errorf("%d an hour before", n)
	}
	now = now.Add(time.Hour + 2*countsBurst*countsEvery)
	if n := taken(1000); n != countsBurst {
		t.Errorf("%d when all has come back", n)
	}
	for range 100 { // who beats each second is always heard
		if now = now.Add(time.Second); !a.take(now, countsBurst, countsEvery) {
			t.Fatal("a beat was not heard")
		}
	}
}

// A worker that says its counts as often as it may send anything is alive, and costs the loop a
// bounded time: on a new connection, too.
func TestCountsAreHeardSoOften(t *testing.T) {
	h := newHouse(t)
	e := h.expect()
	began, heard := time.Now(), 0
	for range 3 {
		p := h.join(e, ipc.StateNew)
		for range maxRate / 2 {
			p.say(ipc.Message{Type: ipc.TypeBeat, Stats: &ipc.Stats{}, Counts: &ipc.Counts{}})
			if e.want(Beat).Counts != nil {
				heard++
			}
		}
		p.Close()
		e.want(Lost)
	}
	if most := countsBurst + int(time.Since(began)/countsEvery) + 1; heard < countsBurst || heard > most {
		t.Errorf("the counts of %d of %d beats were heard, at most %d should be", heard, 3*maxRate/2, most)
	}
}
