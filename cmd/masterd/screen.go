package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/masterd/masterd/pkg/api"
)

// What a terminal is told. The other screen keeps the operator's own lines, and
// nothing is ever cleared before it is written over: that would flicker.
const (
	screenEnter = "\x1b[?1049h\x1b[?25l\x1b[2J"
	screenLeave = "\x1b[?25h\x1b[?1049l"
	screenHome  = "\x1b[H"
	screenToEOL = "\x1b[K"
	screenToEnd = "\x1b[J"
)

// key is what was typed.
type key int

const (
	keyQuit key = iota + 1
	keyUp
	keyDown
	keyPageUp
	keyPageDown
	keyHome
	keyEnd
)

// screen is what is watched, and how far it was scrolled.
type screen struct {
	keys  bool // there are some
	st    api.Status
	rates map[uint64]float64
	err   error // why there is no status now
	at    time.Time

	top  int // lines of the part that scrolls that are above it
	page int // lines of it that were seen last
}

func (s *screen) scroll(k key) {
	switch k {
	case keyUp:
		s.top--
	case keyDown:
		s.top++
	case keyPageUp:
		s.top -= s.page
	case keyPageDown:
		s.top += s.page
	case keyHome:
		s.top = 0
	case keyEnd:
		s.top = 1 << 30
	}
}

// lines are those of the page: what stays in sight, and what scrolls.
func (s *screen) lines(a *app) (fixed, scrolls []string) {
	if s.err != nil {
		text := cut(cleanLines(s.err.Error()), 10*a.pageWidth()) + "\n\n" + s.at.Format(time.TimeOnly)
		return strings.Split(text, "\n"), nil
	}
	st := s.st
	st.Now = st.Now.In(a.now().Location())
	p := &page{st: st, width: a.pageWidth(), colour: a.colour(), which: a.which(), rates: s.rates}
	p.draw()
	return p.lines[:p.sticky], p.lines[p.sticky:]
}

// frame writes one page over the one before, in a single write. How the service is, what
// failed and what to type stay in sight; the rest scrolls.
func (a *app) frame(s *screen) error {
	fixed, scrolls := s.lines(a)
	_, height, ok := a.terminal()
	if !ok || height < 2 {
		height = len(fixed) + len(scrolls) + 1
	}
	if most := max(height/2, height-8); len(fixed) > most { // never all of it
		scrolls = append(fixed[most:], scrolls...)
		fixed = fixed[:most]
	}
	rows := height - len(fixed)
	foot := ""
	if s.keys || len(scrolls) > rows {
		rows--
		foot = "..."
	}
	s.page = max(rows-1, 1)
	s.top = max(0, min(s.top, len(scrolls)-rows))
	end := min(len(scrolls), s.top+rows)
	lines := append(fixed[:len(fixed):len(fixed)], scrolls[s.top:end]...)
	if foot != "" {
		for len(lines) < height-1 {
			lines = append(lines, "")
		}
		lines = append(lines, paint(a.colour(), dim, cut(s.foot(len(scrolls), end), a.pageWidth())))
	}
	var b strings.Builder
	b.WriteString(screenHome)
	for i, l := range lines {
		if i > 0 {
			b.WriteString("\r\n")
		}
		b.WriteString(l)
		b.WriteString(screenToEOL)
	}
	b.WriteString(screenToEnd)
	_, err := io.WriteString(a.out, b.String())
	return err
}

// foot is the last line: where one is, and what can be typed.
func (s *screen) foot(all, end int) string {
	if !s.keys {
		return "... " + several(all-end, "more line")
	}
	text := "q quits"
	if more := all - end; more > 0 || s.top > 0 {
		text += "; arrows, PgUp and PgDn scroll: " + fmt.Sprintf("%d to %d of %d lines", s.top+1, end, all)
	}
	return text
}
