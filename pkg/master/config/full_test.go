package config

import (
	"fmt"
	"strings"
)

// fullWidth is where comments in configs/full.yaml are wrapped, in characters.
const fullWidth = 96

// full is configs/full.yaml: every key with its meaning and its default, made
// of [Keys]. It is a valid configuration.
func full() []byte {
	w := fullWriter{schema: newSchema()}
	w.text("", "Every key of masterd's configuration, with its default where it has one. Made from the same list that "+
		"masterd decodes by; see masterd.yaml(5). Values with an example instead of a default are marked so. "+
		"Single values can be overridden by the environment: rollout.bake by MASTERD_ROLLOUT_BAKE.")
	w.section("", 0, false)
	return []byte(w.out.String())
}

type fullWriter struct {
	schema schema
	out    strings.Builder
}

// text writes a comment, wrapped.
func (w *fullWriter) text(indent, s string) {
	for _, line := range wrap(s, fullWidth-len(indent)-2) {
		w.out.WriteString(indent + "# " + line + "\n")
	}
}

// section writes the keys of a section. off: all of it is a comment.
func (w *fullWriter) section(path string, depth int, off bool) {
	indent := strings.Repeat("  ", depth)
	list := w.schema.byPath[path].Type == List
	for i, k := range w.schema.children[path] {
		lead := indent
		if i > 0 || depth == 0 {
			w.out.WriteByte('\n')
		}
		w.text(lead, facts(k))
		mark := ""
		if off || k.Off {
			mark = "# "
		}
		if list && i == 0 {
			lead = indent[2:] + mark + "- "
			mark = ""
		}
		switch {
		case k.Type == Section || k.Type == List:
			w.out.WriteString(lead + mark + k.Name() + ":\n")
			deeper := 1
			if k.Type == List {
				deeper = 2
			}
			w.section(k.Path, depth+deeper, off || k.Off)
		default:
			w.out.WriteString(lead + mark + k.Name() + ": " + fullValue(k) + "\n")
		}
	}
}

// facts is all that is known of a key in one paragraph.
func facts(k Key) string {
	s := k.Meaning
	if k.Type != Section && k.Type != List {
		kind := string(k.Type)
		switch {
		case len(k.Allowed) > 0:
			kind = strings.Join(k.Allowed, " | ")
		case k.Unit != "":
			kind += ", " + k.Unit
		}
		if k.Min != "" && k.Max != "" {
			kind += fmt.Sprintf(", %s to %s", k.Min, k.Max)
		}
		s += " (" + kind + ")"
	}
	if k.Restart {
		s += " A change needs a restart of masterd."
	}
	if k.Default == "" && k.Example != "" && !required(k) && !k.Off && k.Type != Duration {
		s += " Example: " + k.Example
	}
	return s
}

// fullValue is the value shown: the default, or an example where one is needed.
func fullValue(k Key) string {
	switch {
	case k.Path == "worker.command":
		return `["bin/shop", "--mode=prod"]`
	case required(k) || k.Off || k.Default == "" && k.Type == Duration:
		return k.Example
	case k.Type == Variables:
		return "{}"
	case k.Type == Arguments || k.Type == Paths || k.Type == Words || k.Type == Hooked:
		return "[]"
	case k.Type == Text || k.Type == Path:
		return quote(k.Default)
	}
	return k.Default
}

// wrap breaks a text into lines of at most width characters.
func wrap(s string, width int) []string {
	var lines []string
	line := ""
	for _, word := range strings.Fields(s) {
		if line != "" && len(line)+1+len(word) > width {
			lines = append(lines, line)
			line = ""
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	return append(lines, line)
}
