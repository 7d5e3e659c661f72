package main

import (
	"fmt"
	"strconv"
	"time"
)

// stamp is a moment, to the second, with its zone.
func stamp(t time.Time) string { return t.Format("2006-01-02 15:04:05 MST") }

// span is a length of time as people say it, in its two largest units.
func span(d time.Duration) string {
	s := int64(d.Round(time.Second) / time.Second)
	switch {
	case s < 1:
		return "0s"
	case s < 60:
		return fmt.Sprintf("%ds", s)
	case s < 3600:
		return two(s/60, "m", s%60, "s")
	case s < 24*3600:
		return two(s/3600, "h", s%3600/60, "m")
	}
	return two(s/(24*3600), "d", s%(24*3600)/3600, "h")
}

func two(a int64, ua string, b int64, ub string) string {
	if b == 0 {
		return fmt.Sprintf("%d%s", a, ua)
	}
	return fmt.Sprintf("%d%s %d%s", a, ua, b, ub)
}

// seconds is a short length of time: "0.4s".
func seconds(d time.Duration) string {
	if d = max(d, 0); d >= 100*time.Second {
		return span(d)
	}
	return fmt.Sprintf("%.1fs", d.Seconds())
}

// size is a number of bytes: "45.2 MiB".
func size(n int64) string {
	const units = "KMGTPE"
	if n < 1024 {
		return strconv.FormatInt(n, 10) + " B"
	}
	v, u := float64(n)/1024, 0
	for v >= 1023.95 && u < len(units)-1 {
		v, u = v/1024, u+1
	}
	return fmt.Sprintf("%.1f %ciB", v, units[u])
}

// amount is a number of things, exact while it is short: "99999", "12.3M".
func amount(n uint64) string {
	if n < 100_000 {
		return strconv.FormatUint(n, 10)
	}
	const units = "kMGTPE"
	v, u := float64(n)/1000, 0
	for v >= 999.95 && u < len(units)-1 {
		v, u = v/1000, u+1
	}
	return fmt.Sprintf("%.1f%c", v, units[u])
}

// number is a process's number that may be unknown.
func number[N int | int64](n N) string {
	if n == 0 {
		return "-"
	}
	return strconv.FormatInt(int64(n), 10)
}

// shortDigest is as much of "sha256:HEX" as people compare.
func shortDigest(s string) string {
	const prefix, keep = "sha256:", 12
	if len(s) > len(prefix) && s[:len(prefix)] == prefix {
		s = s[len(prefix):]
	}
	if len(s) > keep {
		s = s[:keep]
	}
	return s
}

// several is "1 worker", "2 workers".
func several(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return strconv.Itoa(n) + " " + thing + "s"
}
