package master

import (
	"errors"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/pkg/ipc"
	"github.com/masterd/masterd/pkg/master/counters"
	"github.com/masterd/masterd/pkg/master/session"
	"github.com/masterd/masterd/pkg/master/state"
)

// beatOf is a beat of a worker that has answered so many requests.
func beatOf(n uint64) session.Fact {
	return session.Fact{Kind: session.Beat, Stats: &ipc.Stats{Open: 3}, Counts: &ipc.Counts{
		Listeners: []ipc.ListenerCounts{{Listener: "http", Open: 3, Accepted: n}, {Listener: "theirs", Accepted: 1}},
		Routes:    []ipc.RouteCounts{{Listener: "http", Route: "/", Status: [5]uint64{1: n}}},
	}}
}

// answered are the requests of all workers.
func answered(s counters.Snapshot) uint64 {
	if r := s.Service.Routes[counters.RouteKey{Listener: "http", Route: "/"}]; r != nil {
		return r.Status[1]
	}
	return 0
}

// The service's counters go on over deaths and rollouts. Generations that are gone are gone from
// them.
func TestCountersAreTheServices(t *testing.T) {
	cfg := testConfig()
	run(t, cfg, func(w *world, m *Master) {
		w.is("v1", behaviour{boot: 2 * time.Second})
		until(t, "v1 serves", serves(w, "v1"))
		w.of("v1").say(beatOf(5))
		w.of("v1").say(beatOf(8))
		w.of("v1").say(beatOf(7))
		w.crash("v1") // with what was open at its last beat
		until(t, "v1 serves again", func() bool { return w.living() == 1 && serves(w, "v1")() })
		w.of("v1").say(beatOf(2))
		got := m.operator.Counts()
		if answered(got) != 10 || got.Service.Accepted["http"] != 10 || got.Service.Lost != 3 || got.Restarts != 1 || len(got.Workers) != 1 {
			t.Errorf("%d answers: %+v", answered(got), got)
		}

		time.Sleep(2 * cfg.Rollout.Bake) // the crash has prolonged it
		w.install("v2")
		w.is("v1", behaviour{farewell: ipc.Stats{Cut: 4, Moved: 7}})
		if _, out := reload(t, m, api.ReloadRequest{}); out.Result != api.ResultDone {
			t.Fatalf("%+v", out)
		}
		w.of("v2").say(beatOf(100))
		got = m.operator.Counts()
		if len(got.Generations) != 2 || answered(got) != 110 || got.Generations[2].Accepted["http"] != 100 {
			t.Errorf("%d answers: %+v", answered(got), got.Generations)
		}
		time.Sleep(cfg.Rollout.Bake + time.Second)
		until(t, "v1 is gone", func() bool { return w.living() == 1 })
		time.Sleep(time.Second)
		got = m.operator.Counts()
		if _, there := got.Generations[1]; there || len(got.Workers) != 1 || got.Service.Cut != 4 || got.Service.HandedOver != 7 ||
			got.Service.Lost != 3 || answered(got) != 110 {
			t.Errorf("%d answers: %+v", answered(got), got)
		}
		for o, n := range map[counters.Outcome]uint64{{What: "start", Outcome: "done"}: 1, {What: "reload", Outcome: "done"}: 1} {
			if got.Rollouts[o] != n {
				t.Errorf("%v: %d, want %d: %v", o, got.Rollouts[o], n, got.Rollouts)
			}
		}
		if len(got.Rollouts) != 2 {
			t.Errorf("%v", got.Rollouts)
		}
		start, bake := got.Stages["start"], got.Stages["bake"]
		if start.Count != 2 || start.Seconds < 2 || start.Seconds > 2.1 || bake.Count != 2 ||
			bake.Seconds < 2*cfg.Rollout.Bake.Seconds() || bake.Seconds > 3*cfg.Rollout.Bake.Seconds() {
			t.Errorf("%+v", got.Stages)
		}
	})
}

// A worker that has to be ended is cut, and not lost. What it says when it is gone counts no more:
// it would all be added again.
func TestWorkersThatAreEnded(t *testing.T) {
	run(t, testConfig(), func(w *world, m *Master) {
		w.is("v1", behaviour{drains: true, deafTERM: true})
		until(t, "v1 serves", serves(w, "v1"))
		first := w.of("v1")
		first.say(beatOf(5))
		leaves(t, w, m)
		first.fact(beatOf(5))
		got := m.operator.Counts()
		if got.Service.Cut != 3 || got.Service.Lost != 0 || answered(got) != 5 || len(got.Workers) != 1 {
			t.Errorf("%d answers: %+v", answered(got), got)
		}
	})
}

// countersDisk keeps what is written, as long as it can.
type countersDisk struct {
	mu     sync.Mutex
	full   bool
	slow   time.Duration
	writes []time.Time
	text   []byte
}

func (d *countersDisk) keep(_ string, text []byte) error {
	d.mu.Lock()
	full, slow := d.full, d.slow
	d.mu.Unlock()
	time.Sleep(slow)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.writes = append(d.writes, time.Now())
	if full {
		return errors.New("no space left on device")
	}
	d.text = text
	return nil
}

func (d *countersDisk) set(full bool, slow time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.full, d.slow = full, slow
}

func (d *countersDisk) times() (n int, last time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if n = len(d.writes); n > 0 {
		last = d.writes[n-1]
	}
	return n, last
}

// next is what a master that came now would know.
func (d *countersDisk) next(t *testing.T) counters.Snapshot {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	s := counters.New()
	if d.text == nil {
		return s.Snapshot()
	}
	if err := s.Restore(d.text, "", func(uint64, uint64) bool { return true }); err != nil {
		t.Fatal(err)
	}
	return s.Snapshot()
}

// What was counted is written soon, and not too often; what is shown was written before. A disk
// that is full or hangs costs the counters alone.
func TestCountersAreWritten(t *testing.T) {
	run(t, testConfig(), func(w *world, m *Master) {
		d := &w.counters
		until(t, "v1 serves", serves(w, "v1"))
		v1 := w.of("v1")
		n := uint64(0)
		count := func() { n++; v1.say(beatOf(n)) }
		count()
		until(t, "it is written", func() bool { return answered(d.next(t)) == 1 })
		before, _ := d.times()
		for range 50 { // five seconds
			time.Sleep(100 * time.Millisecond)
			count()
		}
		if after, _ := d.times(); after-before < 4 || after-before > 6 {
			t.Errorf("%d writes in five seconds", after-before)
		}

		// Shown is what the next master would know.
		count()
		if got := answered(m.operator.Counts()); got != n || answered(d.next(t)) != n {
			t.Errorf("%d of %d are shown, %d are written", got, n, answered(d.next(t)))
		}
		d.set(false, 300*time.Millisecond)
		time.Sleep(2 * time.Second)
		count()
		time.Sleep(10 * time.Millisecond) // a write is under way
		count()
		if got := answered(m.operator.Counts()); got != n || answered(d.next(t)) != n {
			t.Errorf("%d of %d are shown, %d are written", got, n, answered(d.next(t)))
		}
		begun := time.Now()
		m.operator.Counts()
		if took := time.Since(begun); took > 300*time.Millisecond {
			t.Errorf("nothing new is shown after %s", took)
		}

		d.set(false, time.Minute) // it hangs
		count()
		begun = time.Now()
		if got := answered(m.operator.Counts()); got != n || time.Since(begun) > 2*time.Second {
			t.Errorf("%d of %d are shown after %s", got, n, time.Since(begun))
		}
		d.set(true, 0) // it is full
		time.Sleep(time.Minute)
		count()
		if got := answered(m.operator.Counts()); got != n {
			t.Errorf("%d of %d are shown", got, n)
		}
		if next := answered(d.next(t)); next >= n {
			t.Errorf("a full disk has taken %d", next)
		}
		d.set(false, 0)
		until(t, "it is written again", func() bool { return answered(d.next(t)) == n })
	})
}

// A master that makes way for another one writes what was counted last, however short ago it has
// written.
func TestCountersAreWrittenForTheNextMaster(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		m := w.master(testConfig())
		d := &w.counters
		ended := make(chan int)
		go func() { ended <- m.Run(t.Context()) }()
		until(t, "v1 serves", serves(w, "v1"))
		w.of("v1").say(beatOf(1))
		time.Sleep(2 * time.Second)
		w.of("v1").say(beatOf(2))
		w.of("v1").say(beatOf(3))
		old, left := os.Open(os.DevNull)
		if left != nil {
			t.Fatal(left)
		}
		m.loop.Call(func() { left = m.takeover.Leave(&state.LiveUpgrade{By: "alice", Program: "/bin/masterd"}, old) })
		if left != nil {
			t.Fatal(left)
		}
		if code := <-ended; code != Replaced {
			t.Errorf("it ended with %d", code)
		}
		if n := answered(d.next(t)); n != 3 {
			t.Errorf("the next one knows of %d", n)
		}
		if got := m.operator.Counts(); got.Workers != nil {
			t.Errorf("a master that has ended shows %+v", got)
		}
		w.crash("v1")
	})
}
