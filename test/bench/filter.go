package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"strconv"
	"time"

	"github.com/masterd/masterd/test/service"
)

// benchFilter measures what it costs that a program's calls of bind and listen are
// answered: CPU for a request against the same program alone, and how much later it
// serves than where it takes its socket.
func benchFilter(ctx context.Context, p service.Programs, reloads, pairs int, span time.Duration) error {
	s, stop, err := started(ctx, p, func(c service.Config) { unprepared(c, "unmodified", p) })
	if err != nil {
		return err
	}
	defer func() { _ = stop() }()
	worker, err := s.Worker(ctx)
	if err != nil {
		return err
	}
	addr, err := service.FreePort()
	if err != nil {
		return err
	}
	cmd := exec.Command(p.Hostile, "serves", addr)
	if err := cmd.Start(); err != nil {
		return err
	}
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	if err := firstAnswer(ctx, addr, ""); err != nil {
		return err
	}
	halves := []func() ([]float64, error){
		func() ([]float64, error) { return perRequest(ctx, s.Addr, span, worker) },
		func() ([]float64, error) { return perRequest(ctx, addr, span, cmd.Process.Pid) },
	}
	for _, warm := range halves {
		if _, err := warm(); err != nil {
			return err
		}
	}
	var ratios []float64
	for range pairs {
		var cost [2]float64
		for _, i := range rand.Perm(2) {
			got, err := halves[i]()
			if err != nil {
				return err
			}
			cost[i] = got[0]
		}
		ratios = append(ratios, cost[0]/cost[1])
	}
	mean, half := interval(ratios)
	fmt.Printf("filter: CPU of a request with it against the same program without: x%.3f ± %.3f, x%.3f (%d interleaved pairs at %d requests/s; mean with its 95 %% interval, median)\n",
		mean, half, median(ratios), pairs, cpuRate)

	other, stopOther, err := started(ctx, p, func(c service.Config) { unprepared(c, "socket-activation", p) })
	if err != nil {
		return err
	}
	defer func() { _ = stopOther() }()
	var took [2][]time.Duration
	for i := range reloads {
		for k, s := range []*service.Service{s, other} {
			label := "f" + strconv.Itoa(i)
			s.Config.Set("worker.env.RELEASE", label)
			if err := s.Write(); err != nil {
				return err
			}
			d, err := reloadOnce(ctx, s, label)
			if err != nil {
				return errors.Join(err, stopOther())
			}
			took[k] = append(took[k], d)
		}
	}
	with, without := median(took[0]), median(took[1])
	fmt.Printf("filter: `masterd reload` to the first answer %s with it, %s of the same program that takes its socket: %+.1f ms (medians of %d)\n",
		with.Round(100*time.Microsecond), without.Round(100*time.Microsecond), float64((with-without).Microseconds())/1000, reloads)
	return nil
}

// unprepared has a service run the program that can both bind and take its socket.
func unprepared(c service.Config, kind string, p service.Programs) {
	addr := c["listeners"].([]any)[0].(map[string]any)["address"].(string)[len("tcp://"):]
	c.Set("worker.kind", kind).Set("worker.command", []string{p.Hostile, "serves", addr}).Set("worker.env.RELEASE", "v1").
		Set("health.http", map[string]any{"path": "/"}).Set("rollout.bake", "50ms").Set("drain.timeout", "1s")
}
