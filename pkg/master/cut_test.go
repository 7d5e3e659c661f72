package master

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/pkg/ipc"
	"github.com/masterd/masterd/pkg/master/proc"
	"github.com/masterd/masterd/pkg/master/rollout"
)

// leaves rolls over from v1 to v2 and returns what the history then says was
// cut, and how long after the drain began v1 was gone.
func leaves(t *testing.T, w *world, m *Master) ([]api.Entry, time.Duration) {
	t.Helper()
	cfg := testConfig()
	until(t, "v1 serves", serves(w, "v1"))
	time.Sleep(cfg.Rollout.Bake + time.Second)
	w.install("v2")
	if _, out := reload(t, m, api.ReloadRequest{}); out.Result != api.ResultDone {
		t.Fatalf("outcome %+v", out)
	}
	time.Sleep(cfg.Rollout.Bake)
	begun := time.Now()
	until(t, "v1 is gone", func() bool { return w.living() == 1 })
	took := time.Since(begun)
	time.Sleep(time.Second)
	var cuts []api.Entry
	for _, e := range (backend{m}).History(100).Entries {
		if e.Cut != nil {
			cuts = append(cuts, e)
		}
	}
	if last := m.Status().LastCut; (last != nil) != (len(cuts) > 0) || last != nil && *last.Cut != *cuts[0].Cut {
		t.Errorf("status says %+v, history %+v", last, cuts)
	}
	return cuts, took
}

func TestCutsAreTold(t *testing.T) {
	for name, x := range map[string]struct {
		how     behaviour
		want    api.Cut
		why     string
		seconds int
	}{
		"by itself": {behaviour{farewell: ipc.Stats{Cut: 4, CutRequests: 2, CutLongestMS: 9000, CutMedianMS: 300}},
			api.Cut{Connections: 4, Requests: 2, LongestMS: 9000, MedianMS: 300}, "4 connections and 2 requests were cut, the longest after 9s", 0},
		"by force": {behaviour{drains: true, deafTERM: true},
			api.Cut{Connections: 3, Requests: 1, LongestMS: 1500, LastBeat: true}, "did not finish within drain.timeout (5m0s); 3 connections and 1 request were cut, the request after 1.5s (as of its last beat)", 305},
		"for its silence": {behaviour{drains: true, deafTERM: true, mute: true},
			api.Cut{Connections: 3, Requests: 1, LongestMS: 1500, LastBeat: true}, "has not been heard of for 15s", 16},
	} {
		t.Run(name, func(t *testing.T) {
			run(t, testConfig(), func(w *world, m *Master) {
				w.is("v1", x.how)
				cuts, took := leaves(t, w, m)
				if len(cuts) != 1 {
					t.Fatalf("%+v", cuts)
				}
				if e := cuts[0]; *e.Cut != x.want || !strings.Contains(e.Reason, x.why) || e.Worker == 0 || e.To != 1 || e.Version != "v1" || e.Outcome != api.ResultFailed {
					t.Errorf("%+v %+v", e, *e.Cut)
				}
				if off := took - time.Duration(x.seconds)*time.Second; off < -time.Second || off > 2*time.Second {
					t.Errorf("it took %s", took)
				}
			})
		})
	}
}

func TestNothingCutIsNotTold(t *testing.T) {
	run(t, testConfig(), func(w *world, m *Master) {
		if cuts, _ := leaves(t, w, m); len(cuts) != 0 {
			t.Errorf("%+v", cuts)
		}
	})
}

// What a worker says of itself is not to be trusted.
func TestWhatAWorkerTook(t *testing.T) {
	killed, failed := proc.Exit{Code: -1, Signal: 9}, proc.Exit{Code: 2}
	most := time.Duration(math.MaxInt64 / int64(time.Millisecond) * int64(time.Millisecond))
	for name, x := range map[string]struct {
		foreign, goodbye bool
		stopped          bool
		stats            ipc.Stats
		exit             proc.Exit
		want             rollout.Cut
	}{
		"foreign":                    {foreign: true, want: rollout.Cut{Unknown: true}},
		"polite":                     {goodbye: true},
		"killed with nothing open":   {exit: killed},
		"killed after its goodbye":   {goodbye: true, stats: ipc.Stats{Open: 2}, exit: killed},
		"lost its master, ends well": {stats: ipc.Stats{Open: 2, InFlight: 1}},
		"lost its master, has to be stopped": {stopped: true, stats: ipc.Stats{Open: 2, InFlight: 1},
			want: rollout.Cut{Connections: 2, Requests: 1, LastBeat: true}},
		"crashed": {stats: ipc.Stats{Open: 2, InFlight: 1, LongestMS: 7}, exit: failed,
			want: rollout.Cut{Connections: 2, Requests: 1, Longest: 7 * time.Millisecond, LastBeat: true}},
		"killed after it had begun to cut": {stats: ipc.Stats{Cut: 5, CutRequests: 4, CutLongestMS: 9, CutMedianMS: 3, Open: 1}, exit: killed,
			want: rollout.Cut{Connections: 6, Requests: 4, Longest: 9 * time.Millisecond, Median: 3 * time.Millisecond, LastBeat: true}},
		"lies": {stats: ipc.Stats{Open: -5, InFlight: math.MinInt64, LongestMS: math.MinInt64, CutLongestMS: math.MaxInt64}, exit: killed,
			want: rollout.Cut{Longest: most}},
	} {
		t.Run(name, func(t *testing.T) {
			w := &worker{goodbye: x.goodbye, stopped: x.stopped, stats: x.stats}
			if !x.foreign {
				w.session = &fakeWorker{}
			}
			if got := w.took(x.exit); got != x.want {
				t.Errorf("%+v, want %+v", got, x.want)
			}
		})
	}
}
