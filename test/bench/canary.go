package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/masterd/masterd/pkg/master/analysis/analysistest"
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
	for _, percent := range []string{"50", "10"} {
		if err := benchBad(ctx, p, percent, bad); err != nil {
			return err
		}
	}
	return benchUnchanged(ctx, p, unchanged)
}

// judged starts a service with such steps, whose next version fails so many requests in a hundred.
func judged(ctx context.Context, p service.Programs, before, after string, steps ...any) (*service.Service, func() error, error) {
	s, stop, err := started(ctx, p, func(c service.Config) {
		c.Set("rollout.bake", "50ms").Set("rollout.canary.steps", steps).Set("rollout.analysis.delay", "0").
			Set("worker.env.DEMO_FAIL_PERCENT", before)
	})
	if err != nil {
		return nil, nil, err
	}
	s.Config.Set("worker.env.DEMO_FAIL_PERCENT", after)
	return s, stop, s.Write()
}

func step(weight, hold string) any { return map[string]any{"weight": weight, "hold": hold} }

func benchBad(ctx context.Context, p service.Programs, percent string, n int) error {
	s, stop, err := judged(ctx, p, "0", percent, step("10%", "5m"))
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
		if code != 4 || !strings.Contains(out, "more errors than") || lost > 0 {
			return fmt.Errorf("a version with %s %% of errors: exit %d, %d requests without an answer\n%s", percent, code, lost, out)
		}
		errs = append(errs, failed)
	}
	slices.Sort(errs)
	slices.Sort(took)
	at := func(of []int64, q float64) int64 { return of[int(q*float64(len(of)-1)+0.5)] }
	fmt.Printf("canary: %s %% of errors at a weight of 10 %%: taken back after %d requests that failed (median; 95th percentile %d), "+
		"%.1f s after `masterd reload` (%.1f); %d rollouts\n", percent, at(errs, 0.5), at(errs, 0.95),
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
			s, stop, err := judged(ctx, p, canaryPercent, canaryPercent, step("10%", "4s"), step("50%", "4s"))
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
				case code == 4 && strings.Contains(out, "more errors than"):
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
