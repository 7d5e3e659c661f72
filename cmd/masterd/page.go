package main

import (
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/masterd/masterd/pkg/api"
)

// How wide pages are: where there is no terminal, and at most.
const (
	pageColumns = 100
	maxColumns  = 200
)

// nameColumns is how much of a version's name the page shows at least where there is room for
// a page of pageColumns.
const nameColumns = 40

// page is the status page while it is being written.
type page struct {
	lines  []string
	st     api.Status
	width  int
	colour bool
	which  []string // flags by which this service was named

	rates  map[uint64]float64 // requests in a second, by worker; nil: they are not known
	sticky int                // so many of the first lines are what must be seen
}

// render writes the page that an operator lives in. It reads no clock: ages
// are relative to the status's own time, in whose zone moments are shown.
func render(w io.Writer, st api.Status, width int, colour bool, which ...string) error {
	p := &page{st: st, width: width, colour: colour, which: which}
	p.draw()
	_, err := io.WriteString(w, strings.Join(p.lines, "\n")+"\n")
	return err
}

func (p *page) draw() {
	p.head()
	p.rollout()
	p.listeners()
	p.generations()
	p.blobs()
	p.cut()
}

// name is a version's name with what room there is for it.
func (p *page) name(s string) string {
	return cut(clean(s), max(nameColumns, nameColumns+p.width-pageColumns))
}

func (p *page) add(line string) { p.lines = append(p.lines, line) }

const fieldColumns = 10 // of the names at the left

// field is a named line, or several if it is long; without a value, none.
func (p *page) field(name string, st style, value string) {
	indent := 2 + fieldColumns
	for i, l := range wrap(clean(value), p.width-indent) {
		if i > 0 {
			name = ""
		}
		p.add("  " + paint(p.colour, dim, pad(clean(name), fieldColumns)) + paint(p.colour, st, l))
	}
}

// section begins one, after an empty line.
func (p *page) section(title, rest string) {
	p.add("")
	p.add(paint(p.colour, bold, title) + cut("  "+rest, p.width-columns(title)))
}

func (p *page) listeners() {
	if len(p.st.Listeners) == 0 {
		return
	}
	p.add("")
	cols := []column{{title: "LISTENER", most: 24}, {title: "ADDRESS"}, {title: "STEERING"}, {title: "QUEUE", right: true}, {title: "LIMIT", right: true}}
	var rows []row
	for _, l := range p.st.Listeners {
		r := row{cells: []string{clean(l.Name), clean(l.Address), clean(l.Steering), amount(uint64(max(l.Queue, 0))), amount(uint64(max(l.QueueLimit, 0)))}}
		if l.QueueLimit > 0 && l.Queue >= l.QueueLimit {
			r.style = red
		}
		rows = append(rows, r)
		if l.Reason != "" {
			rows = p.notes(rows, dim, l.Reason)
		}
		if l.Drift > 0 {
			times := "once"
			if l.Drift > 1 {
				times = amount(l.Drift) + " times"
			}
			rows = p.notes(rows, yellow, "its steering was changed by somebody else and mended "+times)
		}
	}
	p.lines = append(p.lines, table(cols, rows, 0, p.width, p.colour)...)
}

// notes are lines beneath a row.
func (p *page) notes(rows []row, st style, text string) []row {
	const indent = 4
	for _, l := range wrap(clean(text), p.width-indent) {
		rows = append(rows, row{note: strings.Repeat(" ", indent) + paint(p.colour, st, l)})
	}
	return rows
}

// generations are all of them, newest first, each with its workers.
func (p *page) generations() {
	p.add("")
	if len(p.st.Generations) == 0 {
		p.add(paint(p.colour, red, "No generation is alive."))
		return
	}
	cols := []column{
		{title: "WORKER", right: true}, {title: "PID", right: true}, {title: "PHASE"}, {title: "AGE", right: true},
		{title: "IN FLIGHT", right: true}, {title: "OPEN", right: true}, {title: "REQUESTS", right: true, drop: 1},
		{title: "RSS", right: true, drop: 3}, {title: "FDS", right: true, drop: 2}, {title: "RESTARTS", right: true},
	}
	if p.rates != nil {
		cols = append(cols, column{title: "REQ/S", right: true})
	}
	var rows []row
	for i := len(p.st.Generations) - 1; i >= 0; i-- {
		g := p.st.Generations[i]
		rows = p.generation(rows, g)
		if len(g.Workers) == 0 {
			rows = p.notes(rows, dim, "no worker yet")
		}
		for _, alike := range fold(g) {
			if len(alike) == 1 {
				rows = p.worker(rows, g, alike[0])
			} else {
				rows = p.workers(rows, g, alike)
			}
		}
	}
	p.lines = append(p.lines, table(cols, rows, 0, p.width, p.colour)...)
}

func (p *page) generation(rows []row, g api.Generation) []row {
	phase := p.phase(g)
	rest := "  " + clean(phase)
	if share := share(g); share > 0 || phase == "active" || phase == stageCanary {
		rest += ", " + percent(share) + " of new connections"
	}
	rest += p.lasting(g.Since, g.Deadline)
	if g.Baked {
		rest += ", baked"
	}
	head := fmt.Sprintf("generation %d  ", g.ID)
	room := p.width - columns(head) - columns(rest)
	label := cut(clean(g.Version.Label), max(room, leastColumn))
	open := left(g)
	if open != "" && columns(", "+open) <= room-columns(label) {
		rest, open = rest+", "+open, ""
	}
	rows = append(rows, row{note: head + paint(p.colour, bold, label) + paint(p.colour, phaseStyle(phase), cut(rest, p.width-columns(head)-columns(label)))})
	rows = p.notes(rows, phaseStyle(g.Phase), open)
	return p.notes(rows, plain, answered(g.Recent))
}

// answered is what a generation's workers have answered lately; empty: that is not known, or nothing.
func answered(r *api.Recent) string {
	if r == nil {
		return ""
	}
	sum := uint64(0)
	for _, n := range r.Requests {
		sum += n
	}
	if sum == 0 {
		return ""
	}
	took := func(ms float64) string { return strconv.FormatFloat(ms, 'g', 3, 64) + " ms" }
	return fmt.Sprintf("%s requests in 10 s, %s errors (5xx), p50 %s, p99 %s",
		amount(sum), amount(r.Requests[4]), took(r.P50MS), took(r.P99MS))
}

// left is what a generation that leaves still has to finish.
func left(g api.Generation) string {
	switch g.Phase {
	case "draining", "stopping", "killed":
	default:
		return ""
	}
	var open, running int64
	for _, w := range g.Workers {
		if w.Uncounted {
			return ""
		}
		open, running = open+max(w.Open, 0), running+max(w.InFlight, 0)
	}
	return fmt.Sprintf("%s open, %s running", amount(uint64(max(open, 0))), amount(uint64(max(running, 0))))
}

func (p *page) worker(rows []row, g api.Generation, w api.Worker) []row {
	age := w.Started
	if age.IsZero() {
		age = w.Since
	}
	r := row{cells: []string{
		number(int64(w.ID)), number(w.PID), clean(w.Phase), span(p.st.Now.Sub(age)),
		amount(uint64(max(w.InFlight, 0))), amount(uint64(max(w.Open, 0))), amount(w.Requests),
		"-", number(w.FDs), amount(uint64(max(w.Restarts, 0))),
	}}
	if w.Uncounted {
		r.cells[4], r.cells[5], r.cells[6] = "-", "-", "-"
	}
	if w.RSS > 0 {
		r.cells[7] = size(w.RSS)
	}
	r.cells = p.rate(r.cells, w)
	serves := w.Phase == "active" || w.Phase == "parked"
	if serves && !w.Healthy {
		r.style = red
	}
	rows = append(rows, r)
	if w.Phase != g.Phase && !w.Deadline.IsZero() && !w.Deadline.Equal(g.Deadline) {
		rows = p.notes(rows, dim, w.Phase+p.lasting(w.Since, w.Deadline))
	}
	if w.Processes > 1 {
		rows = p.notes(rows, dim, amount(uint64(w.Processes))+" processes")
	}
	if w.Protocol == 1 {
		rows = p.notes(rows, dim, "speaks control protocol 1: processes of its user can read its secret; build it with the current SDK")
	}
	if w.Says != "" {
		rows = p.notes(rows, dim, "says: "+clean(w.Says))
	}
	if !w.Healthy && w.LastProbe != "" {
		st := dim // one that is being checked for the first time fails at first
		if serves {
			st = red
		}
		rows = p.notes(rows, st, "last check: "+w.LastProbe)
	}
	if !serves && w.InFlight > 0 && w.LongestMS >= time.Second.Milliseconds() {
		rows = p.notes(rows, dim, "its longest request has run for "+span(milliseconds(w.LongestMS)))
	}
	if len(w.GivesTo) > 0 && w.Open > 0 {
		to := make([]string, len(w.GivesTo))
		for i, id := range w.GivesTo {
			to[i] = strconv.FormatUint(id, 10)
		}
		what := "its idle connections move to "
		if w.Phase == "active" {
			what = "a part of its idle connections moves to "
		}
		rows = p.notes(rows, dim, what+strings.Join(to, ", "))
	}
	if w.Clients != nil {
		rows = p.notes(rows, dim, clientsText(*w.Clients))
	}
	if w.Cut != nil {
		rows = p.notes(rows, yellow, "it has cut "+cutText(*w.Cut))
	}
	if w.Dropped > 0 {
		rows = p.notes(rows, yellow, amount(w.Dropped)+" lines of its output were dropped")
	}
	return rows
}

// rate adds how many requests in a second workers have answered, once that is known.
func (p *page) rate(cells []string, ws ...api.Worker) []string {
	if p.rates == nil {
		return cells
	}
	sum, known := 0.0, false
	for _, w := range ws {
		if r, is := p.rates[w.ID]; is {
			sum, known = sum+r, true
		}
	}
	text := "-"
	switch {
	case known && sum < 99.95:
		text = strconv.FormatFloat(sum, 'f', 1, 64)
	case known:
		text = amount(uint64(math.Round(sum)))
	}
	return append(cells, text)
}

// blobs are what workers have the master keep.
func (p *page) blobs() {
	if len(p.st.Blobs) == 0 {
		return
	}
	p.add("")
	cols := []column{{title: "KEPT"}, {title: "SIZE", right: true}, {title: "GENERATION", right: true}, {title: "AGE", right: true}, {title: "ACROSS A STOP"}}
	var rows []row
	for _, b := range p.st.Blobs {
		across, by := "dropped", "-"
		if b.Persist {
			across = "kept"
		}
		if b.Generation != 0 {
			by = amount(b.Generation)
		}
		rows = append(rows, row{cells: []string{clean(b.Name), size(b.Size), by, span(p.st.Now.Sub(b.Since)), across}})
	}
	p.lines = append(p.lines, table(cols, rows, 0, p.width, p.colour)...)
}

// cut is the last worker that took something with it, however long ago.
func (p *page) cut() {
	e := p.st.LastCut
	if e == nil {
		return
	}
	p.section("LAST CUT", fmt.Sprintf("%s ago, %s", span(p.st.Now.Sub(e.At)), stamp(e.At.In(p.st.Now.Location()))))
	p.field("reason", plain, e.Reason)
}

// clientsText says what a worker has open that cannot be asked to let it go.
func clientsText(c api.Clients) string {
	text := amount(uint64(max(c.Open, 0))) + " connections are open"
	if c.Waiting > 0 {
		text += ", on " + amount(uint64(c.Waiting)) + " somebody waits for an answer"
	}
	if c.Streams > 0 {
		text += ", " + amount(uint64(c.Streams)) + " may be streams"
	}
	text += "; " + amount(uint64(max(c.Closed, 0))) + " were closed, each after " + precise(c.QuietMS) + " of quiet"
	if c.PauseMS > 0 {
		text += " (an answer has paused for " + precise(c.PauseMS) + ")"
	}
	return text
}

// cutText says what was cut.
func cutText(c api.Cut) string {
	if c.Unknown {
		return "what it had open, which only it knew"
	}
	text := amount(c.Connections) + " connections, " + amount(c.Requests) + " requests"
	if c.LongestMS > 0 {
		text += ", the longest after " + precise(c.LongestMS)
	}
	if c.MedianMS > 0 && c.Requests > 1 {
		text += ", median " + precise(c.MedianMS)
	}
	if c.LastBeat {
		text += " (as of its last beat)"
	}
	return text
}

// milliseconds takes what a worker said for a time, within what one can be.
func milliseconds(n int64) time.Duration {
	return time.Duration(min(n, math.MaxInt64/int64(time.Millisecond))) * time.Millisecond
}

// precise is a time of which fractions of a second matter.
func precise(ms int64) string {
	if d := milliseconds(ms); d < time.Minute {
		return d.String()
	}
	return span(milliseconds(ms))
}

func stateStyle(state string) style {
	switch state {
	case "serving":
		return green
	case "down":
		return red
	}
	return yellow
}

func phaseStyle(phase string) style {
	switch phase {
	case "active":
		return green
	case "parked", "draining":
		return dim
	case "backoff", "killed":
		return red
	}
	return yellow
}
