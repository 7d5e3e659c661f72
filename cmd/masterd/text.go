package main

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// clean makes text from elsewhere (a label, a reason, a worker's output) safe
// to print on one line: whatever could move the cursor, change a terminal's
// state or reverse the reading order is shown as an escape instead.
func clean(s string) string { return cleanKeeping(s, "") }

// cleanLines keeps line breaks.
func cleanLines(s string) string { return cleanKeeping(s, "\n") }

// cleanOutput keeps tabs: programs align their output with them.
func cleanOutput(s string) string { return cleanKeeping(s, "\t") }

func cleanKeeping(s, keep string) string {
	ok := true
	for _, r := range s {
		if !unicode.IsPrint(r) || r == utf8.RuneError {
			ok = false
			break
		}
	}
	if ok {
		return s
	}
	var b strings.Builder
	for i, size := 0, 0; i < len(s); i += size {
		var r rune
		r, size = utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case strings.ContainsRune(keep, r), unicode.IsPrint(r):
			b.WriteRune(r)
		case r == '\n' || r == '\r' || r == '\t' || unicode.Is(unicode.Zs, r):
			b.WriteByte(' ')
		case r < 0x100:
			fmt.Fprintf(&b, `\x%02x`, r)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String()
}

// cleanJSON does the same to JSON, where an escape means what it stands for.
// The encoder has taken care of what is below a space.
func cleanJSON(b []byte) string {
	var out strings.Builder
	for _, r := range string(b) {
		switch {
		case r < 0x7f || unicode.IsPrint(r):
			out.WriteRune(r)
		case r > 0xffff:
			r -= 0x10000
			fmt.Fprintf(&out, `\u%04x\u%04x`, 0xd800+r>>10, 0xdc00+r&0x3ff)
		default:
			fmt.Fprintf(&out, `\u%04x`, r)
		}
	}
	return out.String()
}

// columns is how much room s takes on a terminal.
func columns(s string) (n int) {
	for _, r := range s {
		n += runeColumns(r)
	}
	return n
}

func runeColumns(r rune) int {
	switch {
	case r < 0x300:
		return 1
	case unicode.In(r, unicode.Mn, unicode.Me):
		return 0
	case r >= 0x1100 && r <= 0x115f, r >= 0x2e80 && r <= 0xa4cf, r >= 0xac00 && r <= 0xd7a3, r >= 0xf900 && r <= 0xfaff,
		r >= 0xfe30 && r <= 0xfe6f, r >= 0xff00 && r <= 0xff60, r >= 0xffe0 && r <= 0xffe6,
		r >= 0x1f300 && r <= 0x1faff, r >= 0x20000 && r <= 0x3fffd:
		return 2
	}
	return 1
}

// cut shortens s to at most width columns and shows that it did.
func cut(s string, width int) string {
	if columns(s) <= width {
		return s
	}
	const mark = "..."
	room := width - len(mark)
	if room < 0 {
		return mark[:max(width, 0)]
	}
	for i, r := range s {
		if room -= runeColumns(r); room < 0 {
			return s[:i] + mark
		}
	}
	return s
}

// pad fills s up to width columns; a negative width fills from the left.
func pad(s string, width int) string {
	left := width < 0
	if left {
		width = -width
	}
	fill := strings.Repeat(" ", max(width-columns(s), 0))
	if left {
		return fill + s
	}
	return s + fill
}

// wrap breaks s into lines of at most width columns, between words where that
// is possible.
func wrap(s string, width int) (lines []string) {
	width = max(width, 1)
	line := ""
	for _, word := range strings.Fields(s) {
		if line != "" && columns(line)+1+columns(word) <= width {
			line += " " + word
			continue
		}
		if line != "" {
			lines = append(lines, line)
		}
		for columns(word) > width {
			n, i := 0, 0
			for j, r := range word {
				if n += runeColumns(r); n > width && j > 0 {
					i = j
					break
				}
			}
			if i == 0 {
				break
			}
			lines, word = append(lines, word[:i]), word[i:]
		}
		line = word
	}
	if line != "" {
		lines = append(lines, line)
	}
	return lines
}

// Styles of text on a terminal.
type style string

const (
	plain  style = ""
	bold   style = "1"
	dim    style = "2"
	red    style = "1;31"
	green  style = "32"
	yellow style = "33"
)

// paint wraps text in a style, if there are colours at all.
func paint(colour bool, st style, s string) string {
	if !colour || st == plain || s == "" {
		return s
	}
	return "\x1b[" + string(st) + "m" + s + "\x1b[0m"
}
