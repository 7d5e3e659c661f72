package config

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// meant is what to write in the place of a value that stands where keys are wanted; empty: nobody
// knows what was meant.
func meant(path string, n *yaml.Node) string {
	text := n.Value
	if n.Kind != yaml.ScalarNode || len(text) > maxWord {
		return ""
	}
	switch {
	case path == "worker":
		return fmt.Sprintf("; write worker: {command: [%s]}", quotedWords(text))
	case path == "log":
		return fmt.Sprintf("; write log: {file: %s}", text)
	case path == "restart":
		return "; a worker that ends is always started again, and it takes keys: initial, max, loop, loop_window"
	case path == "rollout.canary" && meantStep(n) != "":
		return fmt.Sprintf("; write canary: {steps: [%s]}", meantStep(n))
	case path == "health.tcp":
		return "; write tcp: {}"
	case path == "health.http" && strings.HasPrefix(text, "/"):
		return fmt.Sprintf("; write http: {path: %s}", text)
	case path == "health" && strings.Contains(text, "/"):
		_, rest, _ := strings.Cut(text, "://")
		if i := strings.IndexByte(rest, '/'); i >= 0 {
			text = rest[i:]
		}
		return fmt.Sprintf("; write health: {http: {path: %s}}", "/"+strings.TrimLeft(text, "/"))
	}
	return ""
}

func quotedWords(text string) string {
	words := strings.Fields(text)
	for i, w := range words {
		words[i] = fmt.Sprintf("%q", w)
	}
	return strings.Join(words, ", ")
}

var portAtEnd = regexp.MustCompile(`^(?:tcp://)?((?:[0-9.]+|localhost)?:)?([0-9]{1,5})$`)

// meantListener is a listener of which only the address, or the port, was written; empty: it is not.
func meantListener(n *yaml.Node) string {
	if n.Kind != yaml.ScalarNode {
		return ""
	}
	m := portAtEnd.FindStringSubmatch(n.Value)
	if m == nil {
		return ""
	}
	if m[1] == "" {
		m[1] = ":"
	}
	return fmt.Sprintf(`{name: http, address: "tcp://%s%s"}`, m[1], m[2])
}

// meantStep is a step of which only the weight was written; empty: it is not.
func meantStep(n *yaml.Node) string {
	if weight, err := parsePercent(strings.TrimSuffix(n.Value, "%") + "%"); err == nil && weight > 0 && weight < allWeight {
		return fmt.Sprintf("{weight: %s, hold: 1m}", showPercent(weight))
	}
	return ""
}

// meantWord is a word that was probably meant where only some are allowed.
func meantWord(k Key, text string) string {
	word := map[string]string{"warning": "warn", "err": "error", "fatal": "error", "trace": "debug", "text": "console"}[text]
	if slices.Contains(k.Allowed, word) {
		return word
	}
	return ""
}

// anotherFormat says what a file looks like that is not YAML, or no keys with values; empty: it
// looks like nothing that is known.
func anotherFormat(data []byte) string {
	text := string(data)
	switch {
	case regexp.MustCompile(`(?m)^\[(program:|supervisord\b)`).MatchString(text):
		return `; this looks like supervisord's configuration, which "masterd import FILE" reads`
	case regexp.MustCompile(`(?m)^\[(Unit|Service|Install)\]`).MatchString(text):
		return `; this looks like a unit of systemd's: "masterd init -- COMMAND" with the command of ExecStart= writes a configuration`
	case regexp.MustCompile(`(?m)^\[[\w.]+\]\s*$`).MatchString(text):
		return `; this looks like TOML: a configuration is YAML, and "masterd init -- COMMAND" writes one`
	case regexp.MustCompile(`(?m)[{;]\s*$`).MatchString(text):
		return `; this looks like nginx's configuration: masterd's is YAML, and "masterd init -- COMMAND" writes one`
	case regexp.MustCompile(`(?m)\A[A-Z][A-Z0-9_]*=`).MatchString(text):
		return "; this looks like a file of variables: worker.env_files names such a one"
	}
	return ""
}
