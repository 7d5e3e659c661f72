package config

import (
	"regexp"
	"strconv"
	"strings"
)

// yamlErrors are what the YAML parser says, in its own words, and what that means to somebody
// who has never read its code. The first that a text has counts.
var yamlErrors = []struct{ has, means string }{
	{"did not find expected key", `the line does not fit in here: it is indented otherwise than the keys beside it, or is no "key: value"`},
	{"did not find expected '-' indicator", `the line stands in a list and does not begin with "- "; begin it so, or indent it as what it belongs to`},
	{"did not find expected ',' or ']'", `a "[" in this line, or before it, is not closed by "]", or a comma is missing between two items`},
	{"did not find expected ',' or '}'", `a "{" in this line, or before it, is not closed by "}", or a comma is missing between two keys`},
	{"mapping values are not allowed", `there is a ": " too many in the line; put a value that has one in quotes`},
	{"could not find expected ':'", notAKey},
	{"cannot start any token", `a value cannot begin with @, %, a backquote or a tab; put it in quotes`},
	{"found unexpected end of stream", `a quote that begins in this line, or before it, is not closed`},
	{"found unexpected document indicator", `a quote that begins in this line, or before it, is not closed`},
	{"did not find expected node content", `a value is missing, or there is a comma or a bracket too many`},
	{"did not find expected alphabetic or numeric character", `a value that begins with * or & is an alias or an anchor of YAML and needs a name behind it; put it in quotes if it is meant as text`},
	{"block sequence entries are not allowed", `a list cannot begin behind its key; begin it in the next line`},
	{"mapping keys are not allowed", `"? " begins a key that is no word; put it in quotes if it is meant as text`},
	{"found unknown escape character", `in double quotes \ begins an escape such as \n; write \\, or use single quotes`},
	{"hexdecimal number", `in double quotes \ begins an escape such as \n; write \\, or use single quotes`},
	{"found a tab character", `there is a tab where YAML wants spaces`},
	{"tag", `a value that begins with ! is a tag of YAML; put it in quotes if it is meant as text`},
	{"indentation indicator", `behind | or > comes nothing but the end of the line`},
	{"expected comment or line break", `behind | or > comes nothing but the end of the line`},
	{"directive", `a line that begins with % is a directive of YAML; put the value in quotes, or indent it`},
	{"did not find expected <document start>", `the line is no "key: value", or is indented less than the keys above it`},
	{"UTF-8", `the file is not text in UTF-8; is it the right file?`},
	{"Unicode", `the file is not text in UTF-8; is it the right file?`},
	{"control characters are not allowed", `the file has control characters; is it the right file?`},
	{"exceeded max depth", `brackets or lists lie too deep within each other`},
}

// anchorUnknown is what the parser says of an alias without its anchor.
var anchorUnknown = regexp.MustCompile(`unknown anchor '(.*)' referenced`)

// notAKey is said of a line that ought to be one.
const notAKey = `the line is no "key: value": a key ends with a colon and a space`

// syntax tells an error of the YAML parser, whose texts begin "yaml: line 3: ".
func (d *document) syntax(err error, data []byte) {
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	line := 0
	if m := regexp.MustCompile(`^line (\d+): `).FindStringSubmatch(text); m != nil {
		line, _ = strconv.Atoi(m[1])
		text = text[len(m[0]):]
		if fromParser.MatchString(text) {
			line++ // the parser, unlike the scanner, counts lines from 0
		}
	}
	lines := strings.Split(string(data), "\n")
	if tab := indentTab(lines); tab > 0 {
		d.add(tab, "", "not valid YAML: the line is indented with a tab; use spaces")
		return
	}
	line, text = plainYAML(line, text, lines)
	d.add(line, "", "not valid YAML: "+text)
}

// fromParser are the errors of the parser; all others are the scanner's.
var fromParser = regexp.MustCompile(`^did not find expected (key|'-' indicator|',' or|node content|<document start>)|^found undefined tag handle`)

// plainYAML is an error of the YAML parser in plain words, and the line that is meant. The
// parser names the line in which the list or the mapping begins that it was reading.
func plainYAML(line int, text string, lines []string) (int, string) {
	if m := anchorUnknown.FindStringSubmatch(text); m != nil {
		for i, l := range lines {
			if line == 0 && strings.Contains(l, "*"+m[1]) {
				line = i + 1
			}
		}
		return line, "*" + m[1] + " refers to an anchor &" + m[1] + " that is nowhere above; put it in quotes if it is meant as text"
	}
	switch {
	case strings.Contains(text, "'-' indicator"), strings.Contains(text, "expected key"):
		line = misfit(lines, line)
	case strings.Contains(text, "mapping values are not allowed") && line > 0 && line <= len(lines):
		above := line - 1
		for above > 0 && blank(lines[above-1]) {
			above--
		}
		if above == 0 {
			break
		}
		before, here := strings.TrimSpace(lines[above-1]), lines[line-1]
		switch {
		case !strings.Contains(before, ": ") && !strings.HasSuffix(before, ":") && !strings.HasPrefix(before, "-"):
			return above, notAKey
		case indentOf(here) > indentOf(lines[above-1]) && strings.Count(here, ": ")+strings.Count(here+"$", ":$") == 1:
			return line, "the line is indented deeper than the one above, which has a value already; indent both alike"
		}
	}
	for _, e := range yamlErrors {
		if strings.Contains(text, e.has) {
			return line, e.means
		}
	}
	return line, text
}

// misfit finds the first line after the one in which a list or a mapping begins that does not
// fit in there: it is indented less or as no line above it, or is an item where the others are
// none, or the reverse. begin itself if there is none.
func misfit(lines []string, begin int) int {
	if begin < 1 || begin > len(lines) {
		return begin
	}
	isItem := func(line string) bool { return strings.HasPrefix(strings.TrimSpace(line), "-") }
	open := []int{indentOf(lines[begin-1])} // indentations, the outermost first
	text := -1                              // indentation of a key whose value is lines of text; -1: none
	for i := begin; i < len(lines); i++ {
		line, indent := lines[i], indentOf(lines[i])
		if blank(line) || text >= 0 && indent > text {
			continue
		}
		if text = -1; textFollows.MatchString(lines[i]) {
			text = indent
		}
		closed := false
		for len(open) > 1 && indent < open[len(open)-1] {
			open, closed = open[:len(open)-1], true
		}
		last := open[len(open)-1]
		if indent < open[0] || indent == open[0] && isItem(line) != isItem(lines[begin-1]) || closed && indent > last {
			return i + 1
		}
		if indent > last {
			open = append(open, indent)
		}
	}
	return begin
}

// textFollows is the end of a line whose value are the lines of text below it.
var textFollows = regexp.MustCompile(`[|>][-+0-9]*\s*$`)

// indentOf is by how many spaces a line is indented.
func indentOf(line string) int { return len(line) - len(strings.TrimLeft(line, " ")) }

// blank reports whether a line says nothing.
func blank(line string) bool {
	line = strings.TrimSpace(line)
	return line == "" || strings.HasPrefix(line, "#")
}

// indentTab is the first line that is indented with a tab; 0: none.
func indentTab(lines []string) int {
	for i, line := range lines {
		indent := line[:len(line)-len(strings.TrimLeft(line, " \t"))]
		if strings.Contains(indent, "\t") && strings.TrimSpace(line) != "" {
			return i + 1
		}
	}
	return 0
}
