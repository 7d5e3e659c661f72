package config

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// ExpandWorker puts the numbers of a worker and of its generation in the place of each
// {worker} and {generation}. Twice in braces they stand for themselves: {{worker}} is
// {worker}. Other braces stay as they are.
func ExpandWorker(text string, worker, generation uint64) string {
	return strings.NewReplacer("{{worker}}", "{worker}", "{{generation}}", "{generation}",
		"{worker}", strconv.FormatUint(worker, 10),
		"{generation}", strconv.FormatUint(generation, 10)).Replace(text)
}

// fdOpen begins a place in which a descriptor's number is put.
const fdOpen = "{fd:"

// ExpandFDs puts in the place of each {fd:NAME} the number of the descriptor of
// that listener. A name that is not among them is an error. {{fd:NAME}} is {fd:NAME}, of
// any name.
func ExpandFDs(text string, listeners []string) (string, error) {
	var out strings.Builder
	for {
		before, rest, found := strings.Cut(text, fdOpen)
		out.WriteString(before)
		if !found {
			return out.String(), nil
		}
		name, after, closed := strings.Cut(rest, "}")
		i := slices.Index(listeners, name)
		if closed && strings.HasSuffix(before, "{") && strings.HasPrefix(after, "}") {
			out.WriteString("fd:" + name)
			text = after
			continue
		}
		switch {
		case !closed:
			return "", fmt.Errorf("%s has no closing brace", short(fdOpen+rest))
		case i < 0 && len(listeners) == 0:
			return "", fmt.Errorf("{fd:%s}: the service has no listeners", name)
		case i < 0:
			text := fmt.Sprintf("{fd:%s}: there is no listener of that name; the listeners are %s", name, strings.Join(listeners, ", "))
			if near := nearest(name, listeners); near != "" {
				text = fmt.Sprintf("{fd:%s}: there is no listener of that name; did you mean %s?", name, near)
			}
			return "", fmt.Errorf("%s", text)
		}
		out.WriteString(strconv.Itoa(FirstFD + i))
		text = after
	}
}
