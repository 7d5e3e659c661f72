package workers

import (
	"math"
	"testing"
	"time"

	"github.com/masterd/masterd/pkg/ipc"
	"github.com/masterd/masterd/pkg/master/proc"
	"github.com/masterd/masterd/pkg/master/rollout"
)

// What a worker says of itself is not to be trusted.
func TestWhatAWorkerTook(t *testing.T) {
	killed, failed := proc.Exit{Code: -1, Signal: 9}, proc.Exit{Code: 2}
	most := time.Duration(math.MaxInt64 / int64(time.Millisecond) * int64(time.Millisecond))
	for name, x := range map[string]struct {
		foreign, saidDrained bool
		stopped              bool
		stats                ipc.Stats
		exit                 proc.Exit
		want                 rollout.Cut
	}{
		"foreign":                    {foreign: true, want: rollout.Cut{Unknown: true}},
		"polite":                     {saidDrained: true},
		"killed with nothing open":   {exit: killed},
		"killed after its goodbye":   {saidDrained: true, stats: ipc.Stats{Open: 2}, exit: killed},
		"lost its master, ends well": {stats: ipc.Stats{Open: 2, InFlight: 1}},
		"lost its master, has to be stopped": {stopped: true, stats: ipc.Stats{Open: 2, InFlight: 1},
			want: rollout.Cut{Connections: 2, Requests: 1, LastBeat: true}},
		"crashed": {stats: ipc.Stats{Open: 2, InFlight: 1, LongestMS: 7}, exit: failed,
			want: rollout.Cut{Connections: 2, Requests: 1, Longest: 7 * time.Millisecond, LastBeat: true}},
		"killed after it had begun to cut": {stats: ipc.Stats{Cut: 5, CutRequests: 4, CutLongestMS: 9, CutMedianMS: 3,
			Open: 1}, exit: killed,
			want: rollout.Cut{Connections: 6, Requests: 4, Longest: 9 * time.Millisecond, Median: 3 * time.Millisecond,
				LastBeat: true}},
		"lies": {stats: ipc.Stats{Open: -5, InFlight: math.MinInt64, LongestMS: math.MinInt64, CutLongestMS: math.MaxInt64},
			exit: killed,
			want: rollout.Cut{Longest: most}},
	} {
		t.Run(name, func(t *testing.T) {
			w := &Worker{stopped: x.stopped}
			w.kind = &sdk{Worker: w, saidDrained: x.saidDrained, stats: x.stats}
			if x.foreign {
				w.kind = &activated{Worker: w}
			}
			if got := w.kind.cut(x.exit); got != x.want {
				t.Errorf("%+v, want %+v", got, x.want)
			}
		})
	}
}
