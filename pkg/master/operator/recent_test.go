package operator

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/pkg/ipc"
	"github.com/masterd/masterd/pkg/master/counters"
	"github.com/masterd/masterd/pkg/master/recent"
)

// What a generation has answered is of the last ten seconds, and nothing is said once it is older.
func TestRecentOfAGeneration(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New(Options{Counters: counters.New()})
		hear := func(generation, requests uint64) {
			b.Counters.Heard(counters.Source{Worker: generation, Generation: generation, Listeners: []string{"http"}},
				&ipc.Counts{Routes: []ipc.RouteCounts{{Listener: "http", Route: "/", Status: [5]uint64{1: requests},
					Latency: []uint64{uint64(ipc.LatencyBucket(5e6)), requests}}}}, nil)
		}
		hear(1, 1000)
		b.Sample()
		if r := b.recentOf(1); r != nil {
			t.Errorf("at first: %+v", r)
		}
		hear(1, 1070)
		hear(2, 5)
		time.Sleep(recent.Step)
		b.Sample()
		if r := b.recentOf(1); r == nil || r.Requests != [5]uint64{1: 70} || r.P50MS < 4.5 || r.P99MS > 5.5 {
			t.Errorf("%+v", r)
		}
		if r := b.recentOf(2); r != nil {
			t.Errorf("of one that was just heard: %+v", r)
		}
		b.Counters.Retain(func(g uint64) bool { return g != 1 })
		time.Sleep(recent.Step)
		b.Sample()
		if r := b.recentOf(1); r != nil || len(b.lately.generations) != 1 {
			t.Errorf("of one that is gone: %+v", r)
		}
		if r := b.recentOf(2); r == nil || *r != (api.Recent{}) {
			t.Errorf("of one that answers nothing: %+v", r)
		}
		time.Sleep(2 * recent.Step)
		if r := b.recentOf(2); r != nil {
			t.Errorf("of long ago: %+v", r)
		}
	})
}
