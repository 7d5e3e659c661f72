package config

import (
	"math"
	"testing"
	"time"
)

func TestDurationsAreShownAsTheyAreRead(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"0": 0, "0s": 0, "200ms": 200 * time.Millisecond, "5m": 5 * time.Minute, "1h": time.Hour, "1h30m": 90 * time.Minute,
		"1h1s": time.Hour + time.Second, "1.5s": 1500 * time.Millisecond, "60s": time.Minute, "1us": time.Microsecond,
	} {
		d, err := parseDuration(text)
		if err != nil || d != want {
			t.Errorf("%s: %v %v", text, d, err)
		}
		if back, err := parseDuration(showDuration(d)); err != nil || back != d {
			t.Errorf("%s is shown as %s, which is read as %v %v", text, showDuration(d), back, err)
		}
	}
	for _, text := range []string{"", "5", "-5", "1.", "5 m", "5M", "1d", "999999999999h"} {
		if d, err := parseDuration(text); err == nil {
			t.Errorf("%q is read as %v", text, d)
		}
	}
}

func TestSizesAreShownAsTheyAreRead(t *testing.T) {
	for text, want := range map[string]uint64{
		"0": 0, "0B": 0, "1B": 1, "128MiB": 128 << 20, "128 MiB": 128 << 20, "1.5GB": 1_500_000_000, "1.5KiB": 1536, "16kB": 16000, "16KB": 16000,
		"1TiB": 1 << 40, "8388607TiB": 8388607 << 40,
	} {
		n, err := parseSize(text)
		if err != nil || n != want {
			t.Errorf("%s: %v %v", text, n, err)
		}
		if back, err := parseSize(showSize(n)); err != nil || back != n {
			t.Errorf("%s is shown as %s, which is read as %v %v", text, showSize(n), back, err)
		}
	}
	for _, text := range []string{"", "5", "5M", "5m", "5mib", "-5MiB", "MiB", "5MiBB", "5 5MiB", "1e3MiB", "8388608TiB", "9.3e99TB", "99999999999999999999B"} {
		if n, err := parseSize(text); err == nil {
			t.Errorf("%q is read as %v", text, n)
		}
	}
	for _, n := range []uint64{1, 999, 1000, 1023, 1024, 1025, math.MaxInt64} {
		if back, err := parseSize(showSize(n)); err != nil || back != n {
			t.Errorf("%d is shown as %s, which is read as %v %v", n, showSize(n), back, err)
		}
	}
}
