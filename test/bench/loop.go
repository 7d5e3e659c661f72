package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/test/load"
	"github.com/masterd/masterd/test/service"
)

// turns are what a masterd with the tag masterd_turns has measured of its loop.
type turns struct {
	Turns          int64
	Wall, Own, CPU quantiles
	Longest        map[string]struct{ Wall, Own, CPU time.Duration } // by what was done
	Waits          map[string]int64                                  // for other goroutines, by the functions that waited
}

type quantiles struct {
	P50, P99 time.Duration
	P999     time.Duration `json:"p99.9"`
	Max      time.Duration
}

func (q quantiles) String() string {
	return fmt.Sprintf("p50 %s, p99 %s, p99.9 %s, longest %s", q.P50, q.P99, q.P999, q.Max)
}

// benchLoop measures how long the master's loop, which owns all of its state, is busy with
// one thing: reloads, rollbacks and questions under load, for each kind of worker.
func benchLoop(ctx context.Context, p service.Programs, reloads int) error {
	dir, err := os.MkdirTemp("", "mb-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	build := exec.CommandContext(ctx, "go", "build", "-tags", "masterd_turns", "-o", dir+"/", "github.com/masterd/masterd/cmd/masterd")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("building a masterd that measures its loop: %w\n%s", err, out)
	}
	for _, kind := range []string{"sdk", "socket-activation", "unmodified"} {
		got, err := loopOf(ctx, p, filepath.Join(dir, "masterd"), filepath.Join(dir, kind), kind, reloads)
		if err != nil {
			return err
		}
		fmt.Printf("loop: %s: %d turns by the clock: %s\n", kind, got.Turns, got.Wall)
		fmt.Printf("loop: %s: on a processor: %s\n", kind, got.CPU)
		fmt.Printf("loop: %s: without waiting for a processor: %s; the longest:\n", kind, got.Own)
		long := slices.SortedFunc(maps.Keys(got.Longest), func(a, b string) int { return cmp.Compare(got.Longest[b].Own, got.Longest[a].Own) })
		for _, what := range long[:min(len(long), 5)] {
			t := got.Longest[what]
			fmt.Printf("loop: %s: %s, of it %s on the processor, by the clock %s: %s\n", kind, t.Own, t.CPU, t.Wall,
				strings.ReplaceAll(what, "github.com/masterd/masterd/pkg/", ""))
		}
		for _, where := range slices.Sorted(maps.Keys(got.Waits)) {
			fmt.Printf("loop: %s: waits for another goroutine, %d times: %s\n", kind, got.Waits[where], where)
		}
	}
	return nil
}

func loopOf(ctx context.Context, p service.Programs, masterd, file, kind string, reloads int) (got turns, err error) {
	p.Masterd = masterd
	s, stop, err := started(ctx, p, func(c service.Config) {
		c.Set("rollout.bake", "100ms").Set("worker.processes", 4).Set("worker.kind", kind)
		if kind == "unmodified" {
			c.Set("worker.command", []string{p.Plain, c["listeners"].([]any)[0].(map[string]any)["address"].(string)[len("tcp://"):]})
		}
	}, "MASTERD_TURNS="+file)
	if err != nil {
		return got, err
	}
	defer func() {
		if e := stop(); err == nil {
			err = e
		}
	}()
	under, end := context.WithCancel(ctx)
	defer end()
	requests := load.Start(under, load.Plan{Addr: s.Addr, Rate: 2000, Kept: 8, Fresh: 8})
	var asking sync.WaitGroup
	for range 4 { // people who look
		asking.Go(func() {
			for under.Err() == nil {
				_, _ = s.API.Status(under)
				time.Sleep(20 * time.Millisecond)
			}
		})
	}
	for i := range reloads {
		s.Config.Set("worker.env.RELEASE", strconv.Itoa(i))
		if err := s.Write(); err != nil {
			return got, err
		}
		if out, err := s.API.Reload(ctx, api.ReloadRequest{Label: strconv.Itoa(i), Until: "baked"}, nil); err != nil || out.Result != api.ResultDone {
			return got, fmt.Errorf("reload %d: %+v, %w", i, out, err)
		}
	}
	time.Sleep(1100 * time.Millisecond) // it writes once a second
	end()
	asking.Wait()
	requests.Wait()
	text, err := os.ReadFile(file)
	if err != nil {
		return got, err
	}
	return got, json.Unmarshal(text, &got)
}
