package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"
	"time"
)

// jobEvery is the background job's beat.
const jobEvery = 100 * time.Millisecond

// job is the background work of an active worker: it counts. With a file, each
// start and stop is a line there, by which a test sees that no two versions
// ever worked at one time.
type job struct {
	file   string
	runs   atomic.Int64
	ticks  atomic.Int64
	active atomic.Bool
}

// jobStatus is what the job has done.
type jobStatus struct {
	Active bool  `json:"active"`
	Runs   int64 `json:"runs"`
	Ticks  int64 `json:"ticks"`
}

func newJob(file string) *job { return &job{file: file} }

func (j *job) status() jobStatus {
	return jobStatus{Active: j.active.Load(), Runs: j.runs.Load(), Ticks: j.ticks.Load()}
}

// run is given to OnActive.
func (j *job) run(ctx context.Context) {
	j.runs.Add(1)
	j.active.Store(true)
	j.note("start")
	tick := time.NewTicker(jobEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			j.ticks.Add(1)
		case <-ctx.Done():
			j.note("stop")
			j.active.Store(false)
			return
		}
	}
}

// note appends one line: time, process, what.
func (j *job) note(what string) {
	if j.file == "" {
		return
	}
	f, err := os.OpenFile(j.file, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err == nil {
		_, err = fmt.Fprintf(f, "%d %d %s\n", time.Now().UnixNano(), os.Getpid(), what)
		f.Close()
	}
	if err != nil {
		slog.Error("demo-worker: the job's file cannot be written", "file", j.file, "error", err)
	}
}
