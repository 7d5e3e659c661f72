package operator

import (
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/pkg/master/memory"
	"github.com/masterd/masterd/pkg/master/rollout"
)

// One unexpected exit may be chance. From the second within the window on the service is
// degraded, until time has passed; the status tells how many there were and why.
func TestLoopIsDegraded(t *testing.T) {
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	ago := func(ds ...time.Duration) (ts []time.Time) {
		for _, d := range ds {
			ts = append(ts, now.Add(-d))
		}
		return ts
	}
	for name, x := range map[string]struct {
		exits []time.Time
		last  string
		want  string
	}{
		"none": {},
		"one":  {exits: ago(time.Second)},
		"two": {exits: ago(time.Minute, time.Second), last: "panic: oh",
			want: "Workers ended unexpectedly 2 times within restart.loop_window (1m0s). The last one, worker 7, exited: exit status 2. Its last line: panic: oh"},
		"silent": {exits: ago(9*time.Second, time.Second),
			want: "Workers ended unexpectedly 2 times within restart.loop_window (1m0s). The last one, worker 7, exited: exit status 2. It wrote nothing."},
		"old":     {exits: ago(2*time.Minute, time.Second)},
		"all old": {exits: ago(3*time.Minute, 2*time.Minute)},
	} {
		st := rollout.Status{Serving: true, Active: 3, Generations: []rollout.GenerationStatus{
			{ID: 2, Exits: ago(1, 2, 3), Window: time.Minute},
			{ID: 3, Exits: x.exits, Window: time.Minute, Ended: rollout.Ending{Worker: 7, How: "exited: exit status 2"}},
		}}
		state, why := judge(st, api.Status{Now: now}, "", func(w rollout.Worker) string {
			if w != 7 {
				t.Errorf("worker %d is asked for its last line", w)
			}
			return x.last
		})
		if want := "serving"; x.want == "" && (state != want || len(why) != 0) || x.want != "" &&
			(state != "degraded" || len(why) != 1 || why[0] != x.want) {
			t.Errorf("%s: %s %q", name, state, why)
		}
	}
}

// What all processes use is added up; a limit is each one's own, and the one nearest to it counts.
func TestUseOfAllProcesses(t *testing.T) {
	all := []used{{Usage: memory.Usage{RSS: 1, CPU: time.Second, FDs: 500, MaxFDs: 100_000}},
		{Usage: memory.Usage{RSS: 2, CPU: time.Second, FDs: 90, MaxFDs: 100}}, {Usage: memory.Usage{FDs: 9000}}}
	var u uses
	w := api.Worker{ID: 1}
	u.of(&w, func() []int { return []int{0, 1, 2} }, func(pid int) used { return all[pid] })
	want := api.Worker{ID: 1, Processes: 3, RSS: 3, CPUSeconds: 2, FDs: 9590, FDLimit: 100, FDRatio: 0.9}
	if !reflect.DeepEqual(w, want) {
		t.Errorf("%+v, want %+v", w, want)
	}
}

// A worker with very many processes does not keep the master busy for those who ask for
// the status, however many they are; what has few is looked at each time.
func TestUseOfManyProcessesIsLookedAtSeldom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var u uses
		looks := 0
		usage := func(int) used {
			looks++
			time.Sleep(time.Millisecond)
			return used{Usage: memory.Usage{RSS: 10, FDs: 1}}
		}
		ask := func(id uint64, processes int) {
			t.Helper()
			w := api.Worker{ID: id}
			u.of(&w, func() []int { return make([]int, processes) }, usage)
			if w.Processes != processes || w.RSS != int64(10*processes) || w.FDs != processes {
				t.Errorf("%d processes: %+v", processes, w)
			}
		}
		begun := time.Now()
		for range 1000 {
			ask(1, 400)
		}
		if looks != 400 || time.Since(begun) != 400*time.Millisecond {
			t.Errorf("for 1,000 who ask %d looks, which took %s", looks, time.Since(begun))
		}
		time.Sleep(4 * time.Second)
		ask(1, 300)
		looks = 0
		for range 5 {
			ask(2, 1)
			time.Sleep(10 * time.Millisecond)
		}
		if looks != 5 {
			t.Errorf("one process was looked at %d times of 5", looks)
		}
		time.Sleep(time.Minute)
		ask(3, 1)
		if len(u.last) != 1 {
			t.Errorf("workers that are gone are kept: %v", u.last)
		}
	})
}

// What is the same of many workers is said once.
func TestEqualReasonsAreFolded(t *testing.T) {
	sick := func(id uint64, said string) api.Worker { return api.Worker{ID: id, Phase: "active", LastProbe: said} }
	well, gone := api.Worker{ID: 1, Phase: "active", Healthy: true}, api.Worker{ID: 9, Phase: "backoff"}
	for _, x := range []struct {
		ws   []api.Worker
		want string
	}{
		{[]api.Worker{well, well}, ""},
		{[]api.Worker{well, sick(2, "500")}, "Worker 2 fails its checks: 500."},
		{[]api.Worker{sick(1, "500"), sick(2, "500"), sick(3, "500")}, "3 of 3 workers fail their checks: 500."},
		{[]api.Worker{sick(1, "500"), well, gone, sick(2, "404"), sick(3, "500")},
			"2 of 5 workers fail their checks: 500. | Worker 9 is gone; its replacement waits. | Worker 2 fails its checks: 404."},
		{[]api.Worker{gone, gone, well}, "2 of 3 workers are gone; their replacements wait."},
		{[]api.Worker{{Phase: "starting"}, {Phase: "draining"}}, ""},
	} {
		if got := strings.Join(ailing(x.ws), " | "); got != x.want {
			t.Errorf("%q, want %q", got, x.want)
		}
	}
}
