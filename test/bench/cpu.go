package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/masterd/masterd/test/load"
	"github.com/masterd/masterd/test/service"
)

// cpuRate is far from what the machine can do: it is the cost of a request that
// is measured, not the queue before it.
const cpuRate = 2500

// benchCPU compares the CPU time of a request under masterd (the worker's and
// the master's) with that of the same program alone.
func benchCPU(ctx context.Context, p service.Programs, pairs int, span time.Duration) error {
	s, stop, err := started(ctx, p, func(c service.Config) { c.Set("rollout.bake", "0s") })
	if err != nil {
		return err
	}
	defer func() { _ = stop() }()
	worker, err := s.Worker(ctx)
	if err != nil {
		return err
	}
	addr, cmd := alone(p)
	if err := cmd.Start(); err != nil {
		return err
	}
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	if err := firstAnswer(ctx, addr, ""); err != nil {
		return err
	}
	under := func() (float64, error) { return perRequest(ctx, s.Addr, span, worker, s.PID()) }
	bare := func() (float64, error) { return perRequest(ctx, addr, span, cmd.Process.Pid) }
	for _, warm := range []func() (float64, error){under, bare} {
		if _, err := warm(); err != nil {
			return err
		}
	}
	var ratios, costs []float64
	for range pairs {
		halves := []func() (float64, error){under, bare}
		var got [2]float64
		order := rand.Perm(2) // neither is always first
		for _, i := range order {
			if got[i], err = halves[i](); err != nil {
				return err
			}
		}
		ratios, costs = append(ratios, got[0]/got[1]), append(costs, got[1])
	}
	mean, half := interval(ratios)
	fmt.Printf("cpu: a request costs %.1f µs alone; under masterd, its master included, x%.3f ± %.3f (mean of %d interleaved pairs, 95 %%), median x%.3f\n",
		median(costs), mean, half, pairs, median(ratios))
	return nil
}

// perRequest is the CPU time of these processes for each answered request, in
// microseconds.
func perRequest(ctx context.Context, addr string, span time.Duration, pids ...int) (float64, error) {
	ctx, cancel := context.WithTimeout(ctx, span)
	defer cancel()
	before, err := cpuTime(pids...)
	if err != nil {
		return 0, err
	}
	r := load.Run(ctx, load.Plan{Addr: addr, Rate: cpuRate, Kept: 8, Path: "/ping"})
	after, err := cpuTime(pids...)
	if err != nil {
		return 0, err
	}
	if r.Failed() > 0 {
		return 0, fmt.Errorf("%d requests failed:\n%s", r.Failed(), r)
	}
	return float64((after - before).Microseconds()) / float64(r.Requests), nil
}

// cpuTime is what the kernel's scheduler says that processes have run, in
// nanoseconds of resolution (/proc/PID/task/TID/schedstat).
func cpuTime(pids ...int) (total time.Duration, err error) {
	for _, pid := range pids {
		tasks, err := filepath.Glob(filepath.Join("/proc", strconv.Itoa(pid), "task", "*", "schedstat"))
		if err != nil || len(tasks) == 0 {
			return 0, fmt.Errorf("process %d has no schedstat: %v", pid, err)
		}
		for _, t := range tasks {
			b, err := os.ReadFile(t)
			if err != nil {
				continue // a thread that has ended
			}
			ns, err := strconv.ParseInt(strings.Fields(string(b))[0], 10, 64)
			if err != nil {
				return 0, err
			}
			total += time.Duration(ns)
		}
	}
	return total, nil
}
