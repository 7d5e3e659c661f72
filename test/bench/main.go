// Command bench measures what masterd costs: from `masterd reload` to the first
// answer of the new version, moving idle connections, CPU per request against the same program alone,
// and an idle master. Each figure is a median, or a ratio with a confidence
// interval, within one run.
package main

import (
	"context"
	"flag"
	"fmt"
	"math"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"

	"github.com/masterd/masterd/test/service"
)

func main() {
	var (
		reloads = flag.Int("reloads", 15, "reloads for each start-up time, and rounds of the filter's cost")
		pairs   = flag.Int("pairs", 40, "interleaved pairs for CPU per request")
		span    = flag.Duration("span", 1500*time.Millisecond, "length of each half of a pair")
		idle    = flag.Duration("idle", time.Minute, "how long the idle master is watched")
		conns   = flag.Int("conns", 20000, "idle connections that are handed over")
		bad     = flag.Int("bad", 20, "canaries of a version with errors, of each kind")
		same    = flag.Int("unchanged", 300, "canaries of an unchanged version")
		only    = flag.String("only", "", "reload, handover, filter, cpu, loop, idle or canary; all but canary, which takes long, when empty")
	)
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	var err error
	if *only == "canary" {
		err = canaries(ctx, *bad, *same)
	} else {
		err = run(ctx, *only, *reloads, *conns, *pairs, *span, *idle)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, only string, reloads, conns, pairs int, span, idle time.Duration) error {
	dir, err := os.MkdirTemp("", "masterd-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	programs, err := service.Build(ctx, dir)
	if err != nil {
		return err
	}
	for _, b := range []struct {
		name string
		run  func() error
	}{
		{"idle", func() error { return benchIdle(ctx, programs, idle) }},
		{"reload", func() error { return benchReload(ctx, programs, reloads) }},
		{"handover", func() error { return benchHandover(ctx, programs, conns) }},
		{"filter", func() error { return benchFilter(ctx, programs, reloads, span) }},
		{"loop", func() error { return benchLoop(ctx, programs, reloads) }},
		{"cpu", func() error { return benchCPU(ctx, programs, pairs, span) }},
	} {
		if only != "" && only != b.name {
			continue
		}
		if err := b.run(); err != nil {
			return fmt.Errorf("%s: %w", b.name, err)
		}
	}
	return nil
}

// started lays out and starts a service in a directory of its own; what it
// returns stops it. Variables are its master's.
func started(ctx context.Context, p service.Programs, change func(service.Config), variables ...string) (*service.Service, func() error, error) {
	dir, err := os.MkdirTemp("", "mb-")
	if err != nil {
		return nil, nil, err
	}
	s, err := service.New(p, dir)
	if err != nil {
		return nil, nil, err
	}
	if change != nil {
		change(s.Config)
	}
	if len(variables) > 0 {
		s.Argv = append(append([]string{"env"}, variables...), s.Masterd, "run", "--config", s.File)
	}
	stop := func() error {
		err := s.Stop()
		_ = os.RemoveAll(dir)
		return err
	}
	if err := s.Start(ctx); err != nil {
		_ = stop()
		return nil, nil, err
	}
	return s, stop, nil
}

func median[T int64 | float64 | time.Duration](xs []T) T {
	s := slices.Sorted(slices.Values(xs))
	return s[len(s)/2]
}

// interval is the mean with its 95 % confidence interval (normal approximation).
func interval(xs []float64) (mean, half float64) {
	for _, x := range xs {
		mean += x
	}
	mean /= float64(len(xs))
	var ss float64
	for _, x := range xs {
		ss += (x - mean) * (x - mean)
	}
	return mean, 1.96 * math.Sqrt(ss/float64(len(xs)-1)/float64(len(xs)))
}
