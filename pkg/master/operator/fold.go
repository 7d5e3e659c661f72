package operator

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/pkg/master/config"
)

// ofChecks are words of access lines by which those of checks are known.
func ofChecks(h *config.HTTPCheck) []string {
	if h == nil {
		return nil
	}
	path, _, _ := strings.Cut(h.Path, "?")
	return []string{h.Method + " " + h.Path + " ", `"` + h.Path + `"`, `"` + path + `"`, "=" + path + " ", "masterd-check"}
}

// foldChecks is the text of the last n lines, in which many access lines of checks stand as one. Who
// caused a line nobody can know: it is a program's free text. So none is left out for what it
// seems to be, but for one that stays: what names one of checks (a request, a User-Agent) and
// differs from a later line in its numbers alone is counted there. A status is no such number.
func foldChecks(lines []api.LogLine, n int, checks []string) []string {
	before := map[string]int{} // lines that are like one, by what they have in common
	var texts, keys []string   // the last one first
	for _, l := range slices.Backward(lines) {
		key := ""
		if slices.ContainsFunc(checks, func(c string) bool { return strings.Contains(l.Text, c) }) {
			key = l.Stream + numbers.ReplaceAllStringFunc(l.Text, withoutNumber)
		}
		if more, again := before[key]; key != "" && again {
			before[key] = more + 1
			continue
		}
		if len(texts) == n {
			break
		}
		before[key] = 0
		texts, keys = append(texts, l.Text), append(keys, key)
	}
	for i, key := range keys {
		if more := before[key]; more > 0 {
			texts[i] += fmt.Sprintf(" (and %d lines before that differ in numbers alone)", more)
		}
	}
	slices.Reverse(texts)
	return texts
}

// numbers are words with a digit, with what is before and after them.
var numbers = regexp.MustCompile(`(^|[^0-9A-Za-zµ])[0-9A-Za-zµ]*[0-9][0-9A-Za-zµ]*`)

var status = regexp.MustCompile(`^[ ="|][1-5][0-9][0-9]$`)

func withoutNumber(word string) string {
	if status.MatchString(word) {
		return word
	}
	if c := word[0]; c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' {
		return "0"
	}
	return word[:1] + "0"
}
