//go:build masterd_turns

package main

import (
	"encoding/json"
	"os"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// turn gives what makes a masterd that is built with the tag masterd_turns measure its
// loop. Once a second it writes how many turns there were and how long they took, in
// nanoseconds, to the file that MASTERD_TURNS names, and how long what they did took at most.
func turn() func(what string, took time.Duration) {
	file := os.Getenv("MASTERD_TURNS")
	if file == "" {
		return nil
	}
	all := hdrhistogram.New(1, time.Minute.Nanoseconds(), 3)
	longest := map[string]time.Duration{}
	var written time.Time
	return func(what string, took time.Duration) {
		longest[what] = max(longest[what], took)
		_ = all.RecordValue(max(1, min(took, time.Minute).Nanoseconds()))
		if time.Since(written) < time.Second {
			return
		}
		written = time.Now()
		text, err := json.Marshal(map[string]any{
			"turns": all.TotalCount(), "p50": all.ValueAtQuantile(50), "p99": all.ValueAtQuantile(99),
			"p99.9": all.ValueAtQuantile(99.9), "longest": longest,
		})
		if err == nil {
			err = os.WriteFile(file+".new", text, 0o600)
		}
		if err == nil {
			_ = os.Rename(file+".new", file)
		}
	}
}
