package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/masterd/masterd/pkg/api"
)

// maxRows is how many workers of a generation have rows of their own.
const maxRows = 4

// fold puts those workers of a large generation together that there is the same to say of.
// Of a small one each stands alone.
func fold(g api.Generation) (groups [][]api.Worker) {
	type kind struct {
		phase, fails string
		healthy      bool
		alone        uint64
	}
	at := map[kind]int{}
	for _, w := range g.Workers {
		k := kind{phase: w.Phase, healthy: w.Healthy}
		if !w.Healthy {
			k.fails = w.LastProbe
		}
		if len(g.Workers) <= maxRows || w.Cut != nil || w.Dropped > 0 || w.Protocol == 1 || w.Says != "" {
			k.alone = w.ID // it has notes of its own
		}
		i, known := at[k]
		if !known {
			i = len(groups)
			at[k], groups = i, append(groups, nil)
		}
		groups[i] = append(groups[i], w)
	}
	return groups
}

// workers is one row for several, with their sums.
func (p *page) workers(rows []row, g api.Generation, ws []api.Worker) []row {
	var sum api.Worker
	first := ws[0]
	youngest, oldest := time.Duration(-1), time.Duration(0)
	for _, w := range ws {
		sum.InFlight, sum.Open = sum.InFlight+max(w.InFlight, 0), sum.Open+max(w.Open, 0)
		sum.Requests, sum.RSS, sum.FDs = sum.Requests+w.Requests, sum.RSS+w.RSS, sum.FDs+w.FDs
		sum.Restarts, sum.Processes = sum.Restarts+max(w.Restarts, 0), sum.Processes+w.Processes
		sum.Uncounted = sum.Uncounted || w.Uncounted
		begun := w.Started
		if begun.IsZero() {
			begun = w.Since
		}
		age := max(p.st.Now.Sub(begun), 0)
		if oldest = max(oldest, age); youngest < 0 || age < youngest {
			youngest = age
		}
	}
	age := span(oldest)
	if span(youngest) != age {
		age = span(youngest) + " - " + age
	}
	r := row{cells: []string{
		fmt.Sprintf("%d of %d", len(ws), len(g.Workers)), "-", clean(first.Phase), age, amount(uint64(max(sum.InFlight, 0))), amount(uint64(max(sum.Open, 0))),
		amount(sum.Requests), "-", number(int64(sum.FDs)), amount(uint64(sum.Restarts)),
	}}
	if sum.Uncounted {
		r.cells[4], r.cells[5], r.cells[6] = "-", "-", "-"
	}
	if sum.RSS > 0 {
		r.cells[7] = size(sum.RSS)
	}
	r.cells = p.rate(r.cells, ws...)
	st := dim // those that are checked for the first time fail at first
	if (first.Phase == "active" || first.Phase == "parked") && !first.Healthy {
		r.style, st = red, red
	}
	rows = append(rows, r)
	if sum.Processes > len(ws) {
		rows = p.notes(rows, dim, amount(uint64(sum.Processes))+" processes")
	}
	if !first.Healthy && first.LastProbe != "" {
		rows = p.notes(rows, st, fmt.Sprintf("%d of %d fail: %s", len(ws), len(g.Workers), strings.TrimSuffix(first.LastProbe, ".")))
	}
	return rows
}
