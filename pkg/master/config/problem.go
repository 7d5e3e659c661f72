package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	// maxProblems is how many problems of one configuration are told; a binary
	// file taken for YAML has thousands.
	maxProblems = 50
	// maxOneLine is how much of a key or of a text is told, in bytes.
	maxOneLine = 500
)

// Problem is one thing that is wrong, and where.
type Problem struct {
	File string // as it was given; "environment" for variables
	Line int    // from 1; 0: the file as a whole, or a variable
	Key  string // as a path ("rollout.bake", "listeners[1].name") or the variable; empty: none
	Text string // what is wrong and what would be right
}

// String is the problem as one line: "file:line: key: what is wrong".
func (p Problem) String() string {
	var b strings.Builder
	b.WriteString(p.File)
	if p.Line > 0 {
		fmt.Fprintf(&b, ":%d", p.Line)
	}
	b.WriteString(": ")
	if p.Key != "" {
		b.WriteString(p.Key)
		b.WriteString(": ")
	}
	b.WriteString(p.Text)
	return b.String()
}

// Problems is the error of [Load] and [Parse]: everything that is wrong, in
// the order of the file, at most maxProblems.
type Problems struct {
	List    []Problem
	Dropped int   // how many more there were
	Err     error // why the file could not be read; nil: it could
}

// Error has one problem per line.
func (p *Problems) Error() string {
	var lines []string
	for _, one := range p.List {
		lines = append(lines, one.String())
	}
	if p.Dropped > 0 {
		lines = append(lines, fmt.Sprintf("and %d more", p.Dropped))
	}
	return strings.Join(lines, "\n")
}

// Unwrap is why the file could not be read.
func (p *Problems) Unwrap() error { return p.Err }

// sorted brings the list into the order of the file and bounds it.
func (p *Problems) sorted() *Problems {
	for i := range p.List {
		p.List[i].Key, p.List[i].Text = oneLine(p.List[i].Key), oneLine(p.List[i].Text)
	}
	slices.SortStableFunc(p.List, func(a, b Problem) int { return cmp.Compare(a.Line, b.Line) })
	p.List = slices.Compact(p.List)
	if more := len(p.List) - maxProblems; more > 0 {
		p.List, p.Dropped = p.List[:maxProblems], more
	}
	return p
}

// oneLine makes one short line of a text that may hold what was in the file.
func oneLine(s string) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == unicode.ReplacementChar {
			return '?'
		}
		return r
	}, s)
	if len(s) <= maxOneLine {
		return s
	}
	cut := maxOneLine
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + "..."
}
