package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/masterd/masterd/test/service"
)

// filterPairs are measured of each two processes.
const filterPairs = 4

// benchFilter measures what it costs that a program's calls of bind and listen are
// answered: CPU for a request, and how much later it serves, both against the same
// program under masterd that takes its socket instead. Each round has processes of
// their own, since two of one program differ by some per cent.
func benchFilter(ctx context.Context, p service.Programs, rounds int, span time.Duration) error {
	var services [2]*service.Service // with the filter, and without
	for i, kind := range []string{"unmodified", "socket-activation"} {
		s, stop, err := started(ctx, p, func(c service.Config) { unprepared(c, kind, p) })
		if err != nil {
			return err
		}
		defer func() { _ = stop() }()
		services[i] = s
	}
	var took [2][]time.Duration
	var ratios []float64
	for round := range rounds {
		var halves [2]func() ([]float64, error)
		for i, s := range services {
			label := "f" + strconv.Itoa(round)
			s.Config.Set("worker.env.RELEASE", label)
			if err := s.Write(); err != nil {
				return err
			}
			d, err := reloadOnce(ctx, s, label)
			if err != nil {
				return err
			}
			took[i] = append(took[i], d)
			worker, err := s.Worker(ctx)
			if err != nil {
				return err
			}
			halves[i] = func() ([]float64, error) { return perRequest(ctx, s.Addr, span, worker) }
			if _, err := halves[i](); err != nil { // warm
				return err
			}
		}
		var cost [2]float64
		for range filterPairs {
			for _, i := range rand.Perm(2) {
				got, err := halves[i]()
				if err != nil {
					return err
				}
				cost[i] += got[0]
			}
		}
		ratios = append(ratios, cost[0]/cost[1])
	}
	mean, half := interval(ratios)
	fmt.Printf("filter: CPU of a request with it against the same program without: x%.3f ± %.3f, x%.3f (%d rounds of %d interleaved pairs at %d requests/s; mean with its 95 %% interval, median)\n",
		mean, half, median(ratios), rounds, filterPairs, cpuRate)
	with, without := median(took[0]), median(took[1])
	fmt.Printf("filter: `masterd reload` to the first answer %s with it, %s without: %+.1f ms (medians of %d)\n",
		with.Round(100*time.Microsecond), without.Round(100*time.Microsecond), float64((with-without).Microseconds())/1000, rounds)
	return nil
}

// unprepared has a service run the program that can both bind and take its socket.
func unprepared(c service.Config, kind string, p service.Programs) {
	addr := c["listeners"].([]any)[0].(map[string]any)["address"].(string)[len("tcp://"):]
	c.Set("worker.kind", kind).Set("worker.command", []string{p.Hostile, "serves", addr}).Set("worker.env.RELEASE", "v1").
		Set("health.http", map[string]any{"path": "/"}).Set("rollout.bake", "50ms").Set("drain.timeout", "1s")
}
