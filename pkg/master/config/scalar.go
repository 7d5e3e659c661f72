package config

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// maxText is the longest text value, in bytes: that of a path on Linux.
const maxText = 4096

// units of a size, the greatest first so that a value is shown in the greatest
// that it is a whole number of.
func units() []unit {
	return []unit{
		{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10},
		{"TB", 1e12}, {"GB", 1e9}, {"MB", 1e6}, {"kB", 1e3}, {"KB", 1e3}, {"B", 1},
	}
}

type unit struct {
	name  string
	bytes uint64
}

// parseDuration reads a duration with units. 0 needs none.
func parseDuration(s string) (time.Duration, error) {
	if s == "0" {
		return 0, nil
	}
	if bareNumber(s) {
		return 0, fmt.Errorf("%s has no unit; write %ss, %sm or %sms", s, s, s, s)
	}
	d, err := time.ParseDuration(s)
	switch {
	case err == nil:
		return d, nil
	case strings.HasSuffix(s, "d") && bareNumber(strings.TrimSuffix(s, "d")):
		return 0, fmt.Errorf("%q counts days, whose length varies; write hours: 24h", s)
	}
	if slices.Contains([]string{"off", "none", "never", "no", "false"}, s) {
		return 0, fmt.Errorf("%q is not a duration; write 0", s)
	}
	return 0, fmt.Errorf("%q is not a duration; write a number with ms, s, m or h, such as 200ms or 1h30m", s)
}

// showDuration is the shortest form that parseDuration reads.
func showDuration(d time.Duration) string {
	if d == 0 {
		return "0"
	}
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// parseSize reads a number of bytes with its unit. 0 needs none.
func parseSize(s string) (uint64, error) {
	if s == "0" {
		return 0, nil
	}
	if bareNumber(s) {
		return 0, fmt.Errorf("%s has no unit; write %sB, %sKiB or %sMiB", s, s, s, s)
	}
	number := strings.TrimRightFunc(s, func(r rune) bool { return unicode.IsLetter(r) })
	name := s[len(number):]
	number = strings.TrimSuffix(number, " ")
	i := slices.IndexFunc(units(), func(u unit) bool { return u.name == name })
	if i < 0 || !bareNumber(number) || strings.HasPrefix(number, "-") {
		if short := strings.ToUpper(name); len(short) == 1 && strings.Contains("KMGT", short) && bareNumber(number) {
			return 0, fmt.Errorf("%q can mean two sizes; write %s%siB (1024) or %s%sB (1000)", s, number, short, number, short)
		}
		return 0, fmt.Errorf("%q is not a size; write a number with B, KiB, MiB, GiB or kB, MB, GB, such as 128MiB", s)
	}
	factor := units()[i].bytes
	if whole, err := strconv.ParseUint(number, 10, 64); err == nil {
		if whole > math.MaxInt64/factor {
			return 0, fmt.Errorf("%q is too large", s)
		}
		return whole * factor, nil
	}
	f, err := strconv.ParseFloat(number, 64)
	if err != nil || f*float64(factor) >= math.MaxInt64 {
		return 0, fmt.Errorf("%q is too large", s)
	}
	return uint64(math.Round(f * float64(factor))), nil
}

// showSize is a form that parseSize reads without loss.
func showSize(n uint64) string {
	if n == 0 {
		return "0"
	}
	for _, u := range units() {
		if n%u.bytes == 0 {
			return strconv.FormatUint(n/u.bytes, 10) + u.name
		}
	}
	return strconv.FormatUint(n, 10) + "B"
}

// parseRate reads a size per second.
func parseRate(s string) (uint64, error) {
	size, ok := strings.CutSuffix(s, "/s")
	if !ok {
		if _, err := parseSize(s); err == nil && s != "0" {
			return 0, fmt.Errorf("%q is a size; a rate is per second: %s/s", s, s)
		}
		return 0, fmt.Errorf("%q is not a rate; write a size per second, such as 1MiB/s", s)
	}
	return parseSize(strings.TrimSuffix(size, " "))
}

// parseInteger reads a decimal number.
func parseInteger(s string) (int64, error) {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || strings.HasPrefix(s, "+") || (len(s) > 1 && strings.HasPrefix(strings.TrimPrefix(s, "-"), "0")) {
		return 0, fmt.Errorf("%q is not a whole decimal number", s)
	}
	return n, nil
}

func parseBoolean(s string) (bool, error) {
	switch s {
	case "true":
		return true, nil
	case "false":
		return false, nil
	}
	return false, fmt.Errorf("%q is neither true nor false", s)
}

// parseStatuses reads codes and ranges with commas between them.
func parseStatuses(s string) ([]StatusRange, error) {
	var all []StatusRange
	for part := range strings.SplitSeq(s, ",") {
		part = strings.TrimSpace(part)
		from, to, isRange := strings.Cut(part, "-")
		if !isRange {
			to = from
		}
		a, errA := strconv.ParseUint(from, 10, 16)
		b, errB := strconv.ParseUint(to, 10, 16)
		switch {
		case errA != nil || errB != nil:
			return nil, fmt.Errorf(`%q is not a status; write 200, "200-299" or a list of these`, part)
		case a < 100 || b > 599:
			return nil, fmt.Errorf("%s: HTTP statuses are 100 to 599", part)
		case a > b:
			return nil, fmt.Errorf("%s: the range ends before it begins", part)
		case len(all) == maxItems:
			return nil, fmt.Errorf("more than %d statuses", maxItems)
		}
		all = append(all, StatusRange{From: int(a), To: int(b)})
	}
	return all, nil
}

// checkText refuses what would break a line of output or a system call.
func checkText(s string) error {
	switch {
	case len(s) > maxText:
		return fmt.Errorf("the text has %d bytes, at most %d are allowed", len(s), maxText)
	case !utf8.ValidString(s):
		return errors.New("the text is not valid UTF-8")
	case strings.ContainsFunc(s, unicode.IsControl):
		return errors.New("the text has control characters")
	}
	return nil
}

// bareNumber tells whether s is a number and nothing else.
func bareNumber(s string) bool {
	s = strings.TrimPrefix(s, "-")
	return s != "" && strings.Trim(s, "0123456789.") == "" && strings.Count(s, ".") <= 1 && s != "."
}

// bounded reads a value that must be within the bounds of its key.
func bounded[T cmp.Ordered](k Key, text string, parse func(string) (T, error)) (T, error) {
	v, err := parse(text)
	if err != nil {
		return v, err
	}
	least, _ := parse(k.Min) // a bound is never wrong: a test sees to it
	most, _ := parse(k.Max)
	if k.Min != "" && v < least || k.Max != "" && v > most {
		return v, fmt.Errorf("%s is out of range; allowed is %s to %s", text, k.Min, k.Max)
	}
	return v, nil
}
