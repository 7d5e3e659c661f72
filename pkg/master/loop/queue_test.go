package loop

import (
	"testing"
	"testing/synctest"
)

// A master that could not be opened refuses what its rooms have posted meanwhile.
func TestWhatWasPostedToAMasterThatNeverRanIsRefused(t *testing.T) {
	q := NewQueue(4)
	var done, refused int
	for range 3 {
		if !q.Put(func() { done++ }, func() { refused++ }, nil) {
			t.Fatal("an open queue with room refuses a call")
		}
	}
	q.Close()
	q.refuse()
	if q.Put(func() { done++ }, nil, nil) || q.Try(func() { done++ }) {
		t.Error("a closed queue takes a call")
	}
	if done != 0 || refused != 3 {
		t.Errorf("%d done, %d refused; want 0 and 3", done, refused)
	}
}

// Who waits for room in a full queue is woken by its end, and refused.
func TestAFullQueueRefusesAtItsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := NewQueue(1)
		var done, refused int
		q.Put(func() { done++ }, nil, nil)
		if q.Try(func() { done++ }) {
			t.Error("a full queue takes a call")
		}
		waiting := make(chan bool)
		go func() { waiting <- q.Put(func() { done++ }, nil, nil) }()
		synctest.Wait()
		q.Close()
		if !<-waiting {
			refused++
		}
		q.Drain()
		if done != 1 || refused != 1 {
			t.Errorf("%d done, %d refused; want 1 and 1", done, refused)
		}
	})
}
