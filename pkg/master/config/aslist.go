package config

import (
	"bytes"
	"encoding/json"
	"strings"
)

// forShells are characters that only a shell understands, outside of quotes.
const forShells = "|&;<>()$`*?~\n"

// maxRewritten is the longest text that is shown rewritten, in bytes.
const maxRewritten = 300

// asArguments is a command line as the list that a configuration wants. It is split as a
// shell would; one that needs a shell is given to it whole. Empty: it cannot be told.
func asArguments(line string) (list string, shell bool) {
	words, ok := splitLine(line)
	if !ok {
		words, shell = []string{"/bin/sh", "-c", line}, true
	}
	if len(line) > maxRewritten || len(words) == 0 {
		return "", false
	}
	return asList(words), shell
}

// asList writes words as YAML does within a line.
func asList(words []string) string {
	quoted := make([]string, len(words))
	for i, word := range words {
		var b bytes.Buffer
		enc := json.NewEncoder(&b)
		enc.SetEscapeHTML(false)
		_ = enc.Encode(word) // a text always can be
		quoted[i] = strings.TrimSpace(b.String())
	}
	return "[" + strings.Join(quoted, ", ") + "]"
}

// splitLine splits a command line at its spaces, but within quotes; false: it has what only
// a shell understands.
func splitLine(line string) (words []string, ok bool) {
	var word strings.Builder
	began, quote := false, rune(0)
	escaped := false
	for _, r := range line {
		switch {
		case escaped:
			if quote == '"' && !strings.ContainsRune("\"\\$`", r) {
				word.WriteByte('\\') // there it is only for these
			}
			word.WriteRune(r)
			escaped = false
		case r == '\\' && quote != '\'':
			began, escaped = true, true
		case quote != 0 && r == quote:
			quote = 0
		case quote == '\'' || quote == '"' && r != '$' && r != '`':
			word.WriteRune(r)
		case r == '\'' || r == '"':
			began, quote = true, r
		case strings.ContainsRune(forShells, r):
			return nil, false
		case r == ' ' || r == '\t':
			if began {
				words = append(words, word.String())
			}
			word.Reset()
			began = false
		default:
			word.WriteRune(r)
			began = true
		}
	}
	if quote != 0 || escaped {
		return nil, false
	}
	if began {
		words = append(words, word.String())
	}
	if len(words) > 0 && assigns(words[0]) {
		return nil, false
	}
	return words, true
}

// assigns reports whether a word sets a variable, as a shell takes it before a command.
func assigns(word string) bool {
	name, _, found := strings.Cut(word, "=")
	return found && name != "" && !strings.ContainsAny(name, "/-.")
}
