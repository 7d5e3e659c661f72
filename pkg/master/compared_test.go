package master

import (
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
				if *stable.asked() != c || time.Duration(c.Since)*ipc.CompareTick < began+cfg.Rollout.Analysis.Delay {
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
