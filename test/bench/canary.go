package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/pkg/master/analysis"
	"github.com/masterd/masterd/pkg/master/analysis/analysistest"
	"github.com/masterd/masterd/pkg/master/compare"
	"github.com/masterd/masterd/test/load"
	"github.com/masterd/masterd/test/service"
)

const (
	canaryAtOnce  = 6   // services whose versions are unchanged
	canaryPercent = "5" // errors of both of their versions
)

// canaries measures what a canary's verdict is worth: how many requests fail until a version
// with errors is taken back, and how often one without more errors than before is.
func canaries(ctx context.Context, bad, unchanged int) error {
	dir, err := os.MkdirTemp("", "masterd-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	p, err := service.Build(ctx, dir)
	if err != nil {
		return err
	}
	for _, f := range []fault{
		{"50 % of errors", "DEMO_FAIL_PERCENT", "0", "50", "it has more errors than"},
		{"10 % of errors", "DEMO_FAIL_PERCENT", "0", "10", "it has more errors than"},
		{"10 % of orders that fail, which the program counts itself", "DEMO_COUNT_PERCENT", "0", "10", "it has more orders_failed than"},
		{"three times slower", "DEMO_SLOW", "40ms", "120ms", "it is slower than"},
	} {
		if err := benchBad(ctx, p, f, bad); err != nil {
			return err
		}
	}
	return benchUnchanged(ctx, p, unchanged)
}

// fault is what is wrong with a version, which a variable of the demo's makes so.
type fault struct {
	what          string
	name          string
	before, after string // its values
	why           string // it is taken back
}

// judged starts a service with such steps, whose next version has the fault.
func judged(ctx context.Context, p service.Programs, f fault, steps ...any) (*service.Service, func() error, error) {
	s, stop, err := started(ctx, p, func(c service.Config) {
		c.Set("rollout.bake", "50ms").Set("rollout.canary.steps", steps).Set("rollout.analysis", map[string]any{
			"act": "all", "delay": "0", "measures": []any{map[string]any{"name": "orders_failed"}},
		}).Set("worker.env."+f.name, f.before)
	})
	if err != nil {
		return nil, nil, err
	}
	if f.name == "DEMO_SLOW" {
		if err := unslow(ctx, s); err != nil {
			return nil, nil, errors.Join(err, stop())
		}
	}
	s.Config.Set("worker.env."+f.name, f.after)
	return s, stop, s.Write()
}

// unslow has a service show that a new process of it is no slower, which latency acts by.
func unslow(ctx context.Context, s *service.Service) error {
	clients := load.NewStrangers(s.Addr)
	defer clients.Stop()
	for range 3 * compare.RecordWanted {
		if out, code := s.CLI(ctx, "reload", "--canary", "50%:4s"); code != 0 {
			return fmt.Errorf("a reload of an unchanged program: exit %d\n%s", code, out)
		}
		text, _ := s.CLI(ctx, "history", "--json")
		var h api.History
		if err := json.Unmarshal([]byte(text), &h); err != nil {
			return fmt.Errorf("read the history: %w", err)
		}
		if passed(h.Entries) == compare.RecordWanted {
			return nil
		}
	}
	return errors.New("reloads of an unchanged program do not come on record")
}

// passed are those reloads of an unchanged program that were no slower.
func passed(of []api.Entry) (n int) {
	for _, e := range of {
		if a := e.Analysis; a != nil && a.Unchanged && a.Measures[0].Outcome == string(analysis.Pass) {
			n++
		}
	}
	return n
}

func step(weight, hold string) any { return map[string]any{"weight": weight, "hold": hold} }

func benchBad(ctx context.Context, p service.Programs, f fault, n int) error {
	s, stop, err := judged(ctx, p, f, step("10%", "5m"))
	if err != nil {
		return err
	}
	defer stop()
	var errs, took []int64
	for i := range n {
		clients := load.NewStrangers(s.Addr)
		began := time.Now()
		out, code := s.CLI(ctx, "reload", "--label", "bad"+strconv.Itoa(i))
		took = append(took, time.Since(began).Milliseconds())
		failed, lost := clients.Stop()
		if code != 4 || !strings.Contains(out, f.why) || lost > 0 {
			return fmt.Errorf("a version with %s: exit %d, %d requests without an answer\n%s", f.what, code, lost, out)
		}
		errs = append(errs, failed)
	}
	slices.Sort(errs)
	slices.Sort(took)
	at := func(of []int64, q float64) int64 { return of[int(q*float64(len(of)-1)+0.5)] }
	fmt.Printf("canary: %s, at a weight of 10 %%: taken back after %d requests that failed (median; 95th percentile %d), "+
		"%.1f s after `masterd reload` (%.1f); %d rollouts\n", f.what, at(errs, 0.5), at(errs, 0.95),
		float64(at(took, 0.5))/1000, float64(at(took, 0.95))/1000, n)
	return nil
}

func benchUnchanged(ctx context.Context, p service.Programs, n int) error {
	var left, done, wrong atomic.Int64
	left.Store(int64(n))
	var all sync.WaitGroup
	failed := make(chan error, canaryAtOnce)
	for range canaryAtOnce {
		all.Go(func() {
			s, stop, err := judged(ctx, p, fault{name: "DEMO_FAIL_PERCENT", before: canaryPercent, after: canaryPercent},
				step("10%", "4s"), step("50%", "4s"))
			if err != nil {
				failed <- err
				return
			}
			clients := load.NewStrangers(s.Addr)
			defer func() {
				if _, lost := clients.Stop(); lost > 0 {
					err = errors.Join(err, fmt.Errorf("%d requests had no answer", lost))
				}
				failed <- errors.Join(err, stop())
			}()
			for ctx.Err() == nil && left.Add(-1) >= 0 {
				switch out, code := s.CLI(ctx, "reload", "--label", "same"+strconv.FormatInt(done.Add(1), 10)); {
				case code == 4 && strings.Contains(out, "was taken back at"):
					wrong.Add(1)
				case code != 0:
					err = fmt.Errorf("reload: exit %d\n%s", code, out)
					return
				}
			}
		})
	}
	all.Wait()
	close(failed)
	var err error
	for e := range failed {
		err = errors.Join(err, e)
	}
	low, high := analysistest.Wilson(int(wrong.Load()), int(done.Load()))
	fmt.Printf("canary: both versions with %s %% of errors: %d of %d rollouts were taken back (%.2f to %.2f %%), alpha 1 %%\n",
		canaryPercent, wrong.Load(), done.Load(), 100*low, 100*high)
	return err
}
