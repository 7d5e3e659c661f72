package e2e

import (
	"encoding/json"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/test/service"
)

// draining are the generations that leave, oldest first.
func draining(st api.Status) (all []api.Generation) {
	for _, g := range st.Generations {
		if g.Phase == "draining" {
			all = append(all, g)
		}
	}
	return all
}

// holds says whether all that the worker of a generation was asked is in its
// numbers, which come with its beats.
func holds(g api.Generation, open, running int64) bool {
	return len(g.Workers) == 1 && g.Workers[0].Open == open && g.Workers[0].InFlight == running
}

// cutOf waits until history tells what a generation took with it.
func cutOf(t *testing.T, s *service.Service, generation uint64) (cut api.Entry) {
	t.Helper()
	eventually(t, "the cut to be in the history", func() bool {
		entries, err := s.API.History(t.Context(), 100)
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for _, e := range entries {
			if e.Cut != nil && e.To == generation {
				cut = e
				n++
			}
		}
		if n > 1 {
			t.Fatalf("generation %d was cut %d times: %+v", generation, n, entries)
		}
		return n == 1
	})
	return cut
}

// loggedCut is what the log says of it, at level warn.
func loggedCut(t *testing.T, s *service.Service, generation uint64) map[string]any {
	t.Helper()
	for line := range strings.Lines(s.Log(1000)) {
		var l map[string]any
		if json.Unmarshal([]byte(line), &l) == nil && l["what"] == "cut" && l["generation"] == float64(generation) {
			if l["level"] != "warn" {
				t.Errorf("it is not a warning: %s", line)
			}
			return l
		}
	}
	t.Fatalf("the log does not tell what generation %d took with it", generation)
	return nil
}

// Several generations drain at one time, each with what it has left and its own
// deadline; one more than may be cuts the oldest, and that is told everywhere.
func TestThreeGenerationsDrainAtOnce(t *testing.T) {
	t.Parallel()
	s := started(t, func(c service.Config) {
		c.Set("drain.max_generations", 3).Set("drain.timeout", "5m").Set("stop_timeout", "1s")
	})
	baked(t, s)
	var held []*answer
	for i := 1; i <= 3; i++ {
		for range i {
			held = append(held, slowly(t, s, time.Minute))
		}
		n := int64(i)
		wait(t, s, "the requests to run", func(st api.Status) bool { return holds(st.Generations[len(st.Generations)-1], n, n) })
		next(t, s, i+1, "baked")
	}
	wait(t, s, "three to drain", func(st api.Status) bool { return len(draining(st)) == 3 })
	var before time.Time
	for i, g := range draining(status(t, s)) {
		if n := int64(i + 1); g.ID != uint64(i+1) || !holds(g, n, n) {
			t.Errorf("generation %d: %+v", g.ID, g.Workers)
		}
		if !g.Deadline.After(before) || time.Until(g.Deadline) > 5*time.Minute || !g.Workers[0].Deadline.Equal(g.Deadline) {
			t.Errorf("generation %d has the deadline %s, its worker %s", g.ID, g.Deadline, g.Workers[0].Deadline)
		}
		before = g.Deadline
	}
	page, _ := s.CLI(t.Context(), "status")
	for _, want := range []string{"1 open, 1 running", "2 open, 2 running", "3 open, 3 running", "at most 4m"} {
		if !strings.Contains(page, want) {
			t.Errorf("status lacks %q:\n%s", want, page)
		}
	}

	next(t, s, 5, "baked") // generation 4 has nothing open: it is gone at once, and costs nobody anything
	third := slowly(t, s, time.Minute)
	wait(t, s, "the request to run", func(st api.Status) bool { return holds(st.Generations[len(st.Generations)-1], 1, 1) })
	wait(t, s, "three to drain again", func(st api.Status) bool { return len(draining(st)) == 3 })
	next(t, s, 6, "baked")
	e := cutOf(t, s, 1)
	if e.Cut.Connections != 1 || e.Cut.Requests != 1 || e.Cut.LongestMS < 100 || e.Cut.LastBeat || !strings.Contains(e.Reason, "too many generations are draining") {
		t.Errorf("%+v, %+v", e, e.Cut)
	}
	if got := loggedCut(t, s, 1); got["cut_connections"] != 1.0 || got["cut_requests"] != 1.0 || got["cut_longest_ms"] != float64(e.Cut.LongestMS) {
		t.Errorf("the log says %v", got)
	}
	st := status(t, s)
	if st.LastCut == nil || st.LastCut.Worker != e.Worker || len(draining(st)) != 3 {
		t.Errorf("last cut %+v, %d draining", st.LastCut, len(draining(st)))
	}
	if page, _ := s.CLI(t.Context(), "status"); !strings.Contains(page, "LAST CUT") {
		t.Errorf("status does not tell:\n%s", page)
	}
	if list, _ := s.CLI(t.Context(), "history"); !strings.Contains(strings.Join(strings.Fields(list), " "), "too many generations are draining; 1 connection and 1 request were cut") {
		t.Errorf("history does not tell:\n%s", list)
	}
	select {
	case <-held[0].done:
		if held[0].err == nil {
			t.Errorf("the oldest was answered: %d %q", held[0].code, held[0].body)
		}
	case <-time.After(patience):
		t.Error("the oldest one still waits")
	}
	for i, a := range append(held[1:], third) {
		select {
		case <-a.done:
			t.Errorf("request %d ended too: %d, %v", i+1, a.code, a.err)
		default:
		}
	}
}

// At its deadline a worker says itself what it cuts.
func TestWhatADrainCutsIsTold(t *testing.T) {
	t.Parallel()
	s := started(t, func(c service.Config) { c.Set("drain.timeout", "1s") })
	baked(t, s)
	begun := time.Now()
	a := slowly(t, s, time.Minute)
	next(t, s, 2, "baked")
	e := cutOf(t, s, 1)
	<-a.done
	if e.Cut.Connections != 1 || e.Cut.Requests != 1 || e.Cut.LongestMS < 1000 || e.Cut.LongestMS > time.Since(begun).Milliseconds() ||
		e.Cut.LastBeat || !strings.Contains(e.Reason, "drain.timeout (1s)") {
		t.Errorf("%+v, %+v", e, e.Cut)
	}
	loggedCut(t, s, 1)
	// The second leaves with nothing open, and nothing is told of it.
	next(t, s, 3, "baked")
	wait(t, s, "the second to be gone", func(st api.Status) bool { return len(st.Generations) == 1 })
	if st := status(t, s); st.LastCut == nil || st.LastCut.To != 1 {
		t.Errorf("last cut %+v", st.LastCut)
	}
}

// One that cannot say it any more is believed what it said last, and is killed
// after the time that is configured for that.
func TestWhatAKilledWorkerHadOpenIsTold(t *testing.T) {
	t.Parallel()
	s := started(t, func(c service.Config) { c.Set("drain.timeout", "2s").Set("drain.kill_after", "300ms") })
	baked(t, s)
	a := slowly(t, s, time.Minute)
	wait(t, s, "the request to run", func(st api.Status) bool { return holds(st.Generations[0], 1, 1) })
	pid := status(t, s).Generations[0].Workers[0].PID
	next(t, s, 2, "baked")
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	stopped := time.Now()
	e := cutOf(t, s, 1)
	if took := time.Since(stopped); took > 6*time.Second {
		t.Errorf("it took %s", took)
	}
	<-a.done
	if e.Cut.Connections != 1 || e.Cut.Requests != 1 || !e.Cut.LastBeat || !strings.Contains(e.Reason, "(as of its last beat)") {
		t.Errorf("%+v, %+v", e, e.Cut)
	}
	if got := loggedCut(t, s, 1); got["as_of_last_beat"] != true {
		t.Errorf("the log says %v", got)
	}
}

// A draining worker that hangs is found out long before its time is up.
func TestAHungDrainingWorkerIsKilled(t *testing.T) {
	if !*full {
		t.Skip("it takes 16 s of silence")
	}
	t.Parallel()
	s := started(t, func(c service.Config) { c.Set("drain.timeout", "1h") })
	baked(t, s)
	a := slowly(t, s, time.Minute)
	wait(t, s, "the request to run", func(st api.Status) bool { return holds(st.Generations[0], 1, 1) })
	pid := status(t, s).Generations[0].Workers[0].PID
	next(t, s, 2, "baked")
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	underLoad(t, s, quietRate(), func() { <-a.done })
	if e := cutOf(t, s, 1); e.Cut.Connections != 1 || !e.Cut.LastBeat || !strings.Contains(e.Reason, "has not been heard of for 15s") {
		t.Errorf("%+v, %+v", e, e.Cut)
	}
}
