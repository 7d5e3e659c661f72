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
const cpuRate = 5000

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
	under := func() ([]float64, error) { return perRequest(ctx, s.Addr, span, worker, s.PID()) }
	bare := func() ([]float64, error) { return perRequest(ctx, addr, span, cmd.Process.Pid) }
	halves := []func() ([]float64, error){under, bare}
	for _, warm := range halves {
		if _, err := warm(); err != nil {
			return err
		}
	}
	var alone, workers, both []float64
	for range pairs {
		var got [2][]float64
		for _, i := range rand.Perm(2) { // neither is always first
			if got[i], err = halves[i](); err != nil {
				return err
			}
		}
		base := got[1][0]
		alone = append(alone, base)
		workers = append(workers, got[0][0]/base)
		both = append(both, (got[0][0]+got[0][1])/base)
	}
	fmt.Printf("cpu: a request costs %.1f µs alone, at %d requests/s (%d interleaved pairs; mean with its 95 %% interval, median)\n", median(alone), cpuRate, pairs)
	for _, r := range []struct {
		what   string
		ratios []float64
	}{{"the worker", workers}, {"the worker and its master", both}} {
		mean, half := interval(r.ratios)
		fmt.Printf("cpu: under masterd, %s: x%.3f ± %.3f, x%.3f\n", r.what, mean, half, median(r.ratios))
	}
	return nil
}

// perRequest is the CPU time of each of these processes for an answered
// request, in microseconds.
func perRequest(ctx context.Context, addr string, span time.Duration, pids ...int) ([]float64, error) {
	ctx, cancel := context.WithTimeout(ctx, span)
	defer cancel()
	before, err := cpuTimes(pids)
	if err != nil {
		return nil, err
	}
	r := load.Run(ctx, load.Plan{Addr: addr, Rate: cpuRate, Kept: 8, Path: "/ping"})
	after, err := cpuTimes(pids)
	if err != nil {
		return nil, err
	}
	if r.Failed() > 0 {
		return nil, fmt.Errorf("%d requests failed:\n%s", r.Failed(), r)
	}
	costs := make([]float64, len(pids))
	for i := range pids {
		costs[i] = float64((after[i] - before[i]).Nanoseconds()) / 1000 / float64(r.Requests)
	}
	return costs, nil
}

func cpuTimes(pids []int) ([]time.Duration, error) {
	times := make([]time.Duration, len(pids))
	for i, pid := range pids {
		var err error
		if times[i], err = cpuTime(pid); err != nil {
			return nil, err
		}
	}
	return times, nil
}

// cpuTime is what the kernel's scheduler says that a process has run, in
// nanoseconds of resolution (/proc/PID/task/TID/schedstat).
func cpuTime(pid int) (total time.Duration, err error) {
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
	return total, nil
}
