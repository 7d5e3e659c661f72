package main

import "strings"

// column is one column of a table.
type column struct {
	title string
	right bool // numbers
	drop  int  // left out when there is too little room: those with 1 first; zero: never
	keep  bool // never cut: half of a time or of an ID is of no use
	most  int  // columns that it may take where there is too little room; zero: as many as it needs
}

// row is one line of a table, or a line between its rows.
type row struct {
	cells []string // clean
	style style    // of the whole row
	note  string   // instead of cells: a line of its own, already styled and cut
}

// table lays out rows under their titles in at most width columns, indented.
// Its lines carry no trailing space.
func table(cols []column, rows []row, indent, width int, colour bool) []string {
	widths := make([]int, len(cols))
	for i, c := range cols {
		widths[i] = columns(c.title)
		for _, r := range rows {
			if r.cells == nil {
				continue
			}
			widths[i] = max(widths[i], columns(r.cells[i]))
		}
	}
	total := func() (n int) {
		n = indent - gap
		for _, w := range widths {
			if w >= 0 {
				n += gap + w
			}
		}
		return n
	}
	for turn := 1; turn <= len(cols); turn++ {
		for i, c := range cols {
			if c.drop == turn && total() > width {
				widths[i] = -1
			}
		}
	}
	for i, c := range cols {
		if over := total() - width; c.most > 0 && over > 0 {
			widths[i] = max(min(widths[i], c.most), widths[i]-over)
		}
	}
	// What is still too wide is taken from the widest column of text.
	for over := total() - width; over > 0; over = total() - width {
		widest := -1
		for i, c := range cols {
			if !c.right && !c.keep && widths[i] >= 0 && (widest < 0 || widths[i] > widths[widest]) {
				widest = i
			}
		}
		if widest < 0 || widths[widest] <= leastColumn {
			break
		}
		widths[widest] = max(widths[widest]-over, leastColumn)
	}
	line := func(cell func(int) string, st style) string {
		var b strings.Builder
		b.WriteString(strings.Repeat(" ", indent))
		first := true
		for i, c := range cols {
			if widths[i] < 0 {
				continue
			}
			if !first {
				b.WriteString(strings.Repeat(" ", gap))
			}
			first = false
			w := widths[i]
			if c.right {
				w = -w
			}
			b.WriteString(pad(cut(cell(i), widths[i]), w))
		}
		return paint(colour, st, cut(strings.TrimRight(b.String(), " "), width))
	}
	lines := []string{line(func(i int) string { return cols[i].title }, dim)}
	for _, r := range rows {
		if r.cells == nil {
			lines = append(lines, r.note)
			continue
		}
		lines = append(lines, line(func(i int) string { return r.cells[i] }, r.style))
	}
	return lines
}

const (
	gap         = 2 // spaces between columns
	leastColumn = 8 // no column of text is made narrower
)
