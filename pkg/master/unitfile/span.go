package unitfile

import (
	"math"
	"strconv"
	"strings"
	"time"
)

const forever = time.Duration(math.MaxInt64)

// units of systemd.time(7), with seconds for none.
var units = map[string]time.Duration{
	"": time.Second, "s": time.Second, "sec": time.Second, "second": time.Second, "seconds": time.Second,
	"us": time.Microsecond, "usec": time.Microsecond, "µs": time.Microsecond, "ms": time.Millisecond, "msec": time.Millisecond,
	"m": time.Minute, "min": time.Minute, "minute": time.Minute, "minutes": time.Minute,
	"h": time.Hour, "hr": time.Hour, "hour": time.Hour, "hours": time.Hour,
	"d": 24 * time.Hour, "day": 24 * time.Hour, "days": 24 * time.Hour,
	"w": 7 * 24 * time.Hour, "week": 7 * 24 * time.Hour, "weeks": 7 * 24 * time.Hour,
}

const maxSpan = 10 * 365 * 24 * time.Hour

// span reads "5min 20s", "1.5h", "90" or "infinity"; of months and years nobody stops a service.
func span(text string) (total time.Duration, ok bool) {
	if text == "infinity" {
		return forever, true
	}
	for rest := strings.TrimSpace(text); rest != ""; {
		n := len(rest) - len(strings.TrimLeft(rest, "0123456789."))
		value, err := strconv.ParseFloat(rest[:n], 64)
		rest = strings.TrimLeft(rest[n:], " \t")
		n = strings.IndexAny(rest, "0123456789. \t")
		if n < 0 {
			n = len(rest)
		}
		unit, known := units[rest[:n]]
		total += time.Duration(min(value*float64(unit), float64(maxSpan)))
		if err != nil || !known || total >= maxSpan {
			return 0, false
		}
		rest, ok = strings.TrimLeft(rest[n:], " \t"), true
	}
	return total, ok
}

// bytes reads a size, with K, M, G or T for powers of 1024.
func bytes(text string) (n uint64, ok bool) {
	shift := 0
	if number := strings.TrimRight(text, "KMGT"); len(number) == len(text)-1 {
		shift = 10 * (1 + strings.IndexByte("KMGT", text[len(number)]))
		text = number
	}
	n, err := strconv.ParseUint(text, 10, 64)
	return n << shift, err == nil && n <= maxBytes>>shift
}

// size writes a size as the configuration has it.
func size(n uint64) string {
	for i, unit := range []string{"GiB", "MiB", "KiB"} {
		if one := uint64(1) << (30 - 10*i); n > 0 && n%one == 0 {
			return strconv.FormatUint(n/one, 10) + unit
		}
	}
	return strconv.FormatUint(n, 10) + "B"
}

const maxBytes = 1 << 50 // that is what worker.limits.memory takes
