package master

import (
	"strings"
	"testing"
	"time"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/pkg/ipc"
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
	for _, e := range m.operator.History(100).Entries {
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
			api.Cut{Connections: 4, Requests: 2, LongestMS: 9000, MedianMS: 300},
			"4 connections and 2 requests were cut, the longest after 9s", 0},
		"by force": {behaviour{drains: true, deafTERM: true},
			api.Cut{Connections: 3, Requests: 1, LongestMS: 1500, LastBeat: true},
			"did not finish within drain.timeout (5m0s); 3 connections and 1 request were cut, the request after 1.5s (as of its last beat)", 305},
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
				if e := cuts[0]; *e.Cut != x.want || !strings.Contains(e.Reason, x.why) || e.Worker == 0 || e.To != 1 ||
					e.Version != "v1" || e.Outcome != api.ResultFailed {
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
