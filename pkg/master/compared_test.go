package master

import (
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/pkg/ipc"
	"github.com/masterd/masterd/pkg/master/config"
	"github.com/masterd/masterd/pkg/master/session"
)

// asked is the last comparison that a worker was asked to count for; nil: none, or no more.
func (f *fakeWorker) asked() *ipc.Compare {
	f.w.mu.Lock()
	defer f.w.mu.Unlock()
	if len(f.compares) == 0 {
		return nil
	}
	return f.compares[len(f.compares)-1]
}

// counted is a beat of a worker that has so many connections each second, of which so many have
// an error.
func counted(c *ipc.Compare, drawn, failed uint64) session.Fact {
	now := int64(monotonic() / ipc.CompareTick)
	is := ipc.Compared{ID: c.ID, From: max(c.Since, now-ipc.MaxCompareTicks), Through: now - 1}
	for t := is.From; t <= is.Through; t++ {
		is.Drawn = append(is.Drawn, uint64(t), drawn)
		is.Failed = append(is.Failed, uint64(t), failed)
	}
	return session.Fact{Kind: session.Beat, Stats: &ipc.Stats{}, Counts: &ipc.Counts{Compared: &is}}
}

// atStep has v2 at its step, beside v1.
func atStep(t *testing.T, w *world, m *Master) (events <-chan api.Event, stable, candidate *fakeWorker) {
	t.Helper()
	until(t, "v1 serves", serves(w, "v1"))
	time.Sleep(testConfig().Rollout.Bake + time.Second)
	w.install("v2")
	events, err := m.operator.Reload("alice", true, api.ReloadRequest{})
	if err != nil {
		t.Fatal(err)
	}
	until(t, "both serve", serves(w, "v1", "v2"))
	until(t, "they are asked to count", func() bool { return w.of("v2").asked() != nil })
	return events, w.of("v1"), w.of("v2")
}

// What both versions count is compared, and the worse one is taken back.
func TestACanaryIsJudged(t *testing.T) {
	for _, act := range []string{"auto", config.ActReport} {
		t.Run(act, func(t *testing.T) {
			cfg := stepsConfig()
			cfg.Rollout.Analysis.Act = act
			run(t, cfg, func(w *world, m *Master) {
				began := monotonic()
				events, stable, candidate := atStep(t, w, m)
				c := *candidate.asked()
				if !reflect.DeepEqual(*stable.asked(), c) || time.Duration(c.Since)*ipc.CompareTick < began+cfg.Rollout.Analysis.Delay {
					t.Fatalf("asked to count %+v and %+v", stable.asked(), c)
				}
				time.Sleep(cfg.Rollout.Analysis.Delay + 4*time.Second)
				stable.say(counted(&c, 90, 0))
				if a := m.operator.Status().Rollout.Analysis; a == nil || a.Stable.Connections != 0 {
					t.Errorf("before all have told: %+v", a)
				}
				candidate.say(counted(&c, 10, 5))
				if act == config.ActReport {
					until(t, "the verdict", func() bool { return m.operator.Status().Rollout.Analysis.Outcome == "fail" })
					if !serves(w, "v1", "v2")() {
						t.Error("it acts although it shall report")
					}
					until(t, "v2 serves", serves(w, "v2"))
					if stable.asked() != nil || candidate.asked() != nil {
						t.Error("they count on")
					}
					return
				}
				_, out := read(t, events)
				if out.Result != api.ResultRolledBack || out.Stage != "canary" || !serves(w, "v1")() ||
					!strings.Contains(out.Reason, "it has more errors than generation 1: 15 of its 30 connections had one, 0 of 270 there (evidence over 999999, 100 is enough)") {
					t.Errorf("%+v", out)
				}
				if last := m.operator.Status().LastFailure; last == nil || last.Analysis == nil || last.Analysis.Outcome != "fail" {
					t.Errorf("the status has %+v", last)
				}
			})
		})
	}
}

// answeredMany is a beat of one that has answered so many requests in 10 ms each.
func answeredMany(n uint64) session.Fact {
	return session.Fact{Kind: session.Beat, Stats: &ipc.Stats{}, Counts: &ipc.Counts{Routes: []ipc.RouteCounts{{Listener: "http", Route: "/",
		Status: [5]uint64{1: n}, Latency: []uint64{uint64(ipc.LatencyBucket(uint64(10 * time.Millisecond))), n}}}}}
}

// Latency and measures of the program's own are compared, too, and act if they may.
func TestACanaryIsJudgedByAll(t *testing.T) {
	for name, x := range map[string]struct {
		act        string
		past       int // reloads of an unchanged program on record
		same       bool
		slow, hits uint64 // of the candidate's connections
		why        string // it is taken back; empty: it is not
	}{
		"a measure":                         {config.ActAll, 0, false, 0, 9, "it has more orders than generation 1: they were counted on 27 of its 30 connections"},
		"a measure that is reported":        {"auto", 10, false, 0, 10, ""},
		"latency":                           {config.ActAll, 10, false, 10, 0, "it is slower than generation 1: 30 of its 30 connections had a slow request"},
		"latency, of which is known little": {config.ActAll, 9, true, 10, 0, ""},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := stepsConfig()
			cfg.Rollout.Analysis.Act = x.act
			cfg.Rollout.Analysis.Latency = config.Latency{SlowerBy: 5000, AtLeast: 20 * time.Millisecond}
			cfg.Rollout.Analysis.Measures = []config.Measure{{Name: "orders", Ratio: 1.5}}
			run(t, cfg, func(w *world, m *Master) {
				for range x.past {
					m.operator.RecordMasterd(api.Entry{What: "reload", Analysis: &api.Analysis{Unchanged: true,
						Measures: []api.Measure{{Name: "latency", Outcome: "pass"}}}})
				}
				until(t, "v1 serves", serves(w, "v1"))
				w.of("v1").say(answeredMany(1000))
				var events <-chan api.Event
				var stable, candidate *fakeWorker
				if x.same {
					stable, candidate = againAtStep(t, w, m)
				} else {
					events, stable, candidate = atStep(t, w, m)
				}
				c := *candidate.asked()
				if len(c.Slow) != 1 || c.Slow[0].Route != "/" || c.Slow[0].NS < 30e6 || c.Slow[0].NS > 34e6 || !slices.Equal(c.Measures, []string{"orders"}) ||
					!reflect.DeepEqual(*stable.asked(), c) {
					t.Fatalf("asked to count %+v", c)
				}
				time.Sleep(cfg.Rollout.Analysis.Delay + 4*time.Second)
				stable.say(withOthers(&c, 90, 0, 0))
				candidate.say(withOthers(&c, 10, x.slow, x.hits))
				if x.why != "" {
					if _, out := read(t, events); out.Result != api.ResultRolledBack || !strings.Contains(out.Reason, x.why) {
						t.Errorf("%+v", out)
					}
					return
				}
				until(t, "all is told", func() bool { return m.operator.Status().Rollout.Analysis.Candidate.Connections > 0 })
				a := m.operator.Status().Rollout.Analysis
				if a.Outcome != "pass" || a.Unchanged != x.same || len(a.Measures) != 2 || a.Measures[0].Acts || a.Measures[1].Acts != (x.act == config.ActAll) ||
					*a.Measures[0].Record != (api.Record{Rollouts: x.past, Wanted: 10}) ||
					(a.Measures[0].Outcome == "fail") != (x.slow > 0) || (a.Measures[1].Outcome == "fail") != (x.hits > 0) {
					t.Errorf("%+v", a)
				}
			})
		})
	}
}

// againAtStep has the program that runs at its step, beside itself.
func againAtStep(t *testing.T, w *world, m *Master) (stable, candidate *fakeWorker) {
	t.Helper()
	time.Sleep(testConfig().Rollout.Bake + time.Second)
	stable = w.of("v1")
	if _, err := m.operator.Reload("alice", true, api.ReloadRequest{}); err != nil {
		t.Fatal(err)
	}
	until(t, "they are asked to count", func() bool {
		w.mu.Lock()
		for _, f := range w.workers {
			if f != stable {
				candidate = f
			}
		}
		w.mu.Unlock()
		return candidate != nil && candidate.asked() != nil
	})
	return stable, candidate
}

// withOthers is what a worker says which had so many slow connections, and so many with orders, in
// each of three ticks.
func withOthers(c *ipc.Compare, drawn, slow, orders uint64) session.Fact {
	f := counted(c, drawn, 0)
	is := f.Counts.Compared
	is.Others = make([][]uint64, 2)
	for t := is.From; t <= is.Through; t++ {
		is.Others[0] = append(is.Others[0], uint64(t), slow)
		is.Others[1] = append(is.Others[1], uint64(t), orders)
	}
	return f
}

// A worker that cannot count has nothing compared, and says so.
func TestAWorkerThatDoesNotCount(t *testing.T) {
	run(t, stepsConfig(), func(w *world, m *Master) {
		_, stable, candidate := atStep(t, w, m)
		c := *candidate.asked()
		stable.say(session.Fact{Kind: session.Refused, Seq: uint64(len(stable.compares)), Text: "what is compare?"})
		time.Sleep(20 * time.Second)
		stable.say(counted(&c, 90, 0))
		candidate.say(counted(&c, 10, 10))
		a := m.operator.Status().Rollout.Analysis
		if a == nil || a.Cannot != stable.id || a.Candidate.Connections != 0 || a.Outcome != "inconclusive" {
			t.Errorf("%+v", a)
		}
		until(t, "v2 serves", serves(w, "v2"))
	})
}

// What could be judged waits until it is, or until a worker says that it does not count.
func TestACanaryWaitsToBeJudged(t *testing.T) {
	for _, word := range []string{"it passes", "a worker refuses"} {
		t.Run(word, func(t *testing.T) {
			cfg := stepsConfig()
			cfg.Rollout.Analysis.MaxWait = 15 * time.Minute
			run(t, cfg, func(w *world, m *Master) {
				_, stable, candidate := atStep(t, w, m)
				c := *candidate.asked()
				time.Sleep(cfg.Rollout.Canary.Steps[0].Hold + 10*time.Minute)
				if r := m.operator.Status().Rollout; r == nil || r.Stage != "canary" || r.Inconclusive != config.InconclusivePause {
					t.Fatalf("it does not wait: %+v", r)
				}
				if word == "it passes" {
					stable.say(counted(&c, 90, 0))
					candidate.say(counted(&c, 10, 0))
				} else {
					stable.say(session.Fact{Kind: session.Refused, Seq: uint64(len(stable.compares)), Text: "what is compare?"})
				}
				until(t, "v2 serves", serves(w, "v2"))
			})
		})
	}
}
