package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/masterd/masterd/test/service"
)

// benchIdle watches a master with one service that nobody asks anything.
func benchIdle(ctx context.Context, p service.Programs, span time.Duration) error {
	s, stop, err := started(ctx, p, func(c service.Config) { c.Set("rollout.bake", "0s") })
	if err != nil {
		return err
	}
	defer func() { _ = stop() }()
	before, err := cpuTime(s.PID())
	if err != nil {
		return err
	}
	begun := time.Now()
	select {
	case <-time.After(span):
	case <-ctx.Done():
		return ctx.Err()
	}
	after, err := cpuTime(s.PID())
	if err != nil {
		return err
	}
	anon, err := rssAnon(s.PID())
	if err != nil {
		return err
	}
	fmt.Printf("idle: the master has %s of anonymous memory and used %.3f %% of a core over %s\n",
		anon, 100*float64(after-before)/float64(time.Since(begun)), span)
	return nil
}

func rssAnon(pid int) (string, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return "", err
	}
	for _, line := range strings.Split(string(b), "\n") {
		if v, ok := strings.CutPrefix(line, "RssAnon:"); ok {
			return strings.TrimSpace(v), nil
		}
	}
	return "", fmt.Errorf("no RssAnon in /proc/%d/status", pid)
}
