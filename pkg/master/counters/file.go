package counters

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/masterd/masterd/pkg/ipc"
)

// schema is the number of the form below.
const schema = 1

// Saved is what the next master needs to go on counting: the sums, and what each worker has said
// so far, so that of its next word only what has grown is added. It shares nothing that changes.
type Saved struct {
	snapshot Snapshot
	underWay map[uint64]stage
	workers  map[uint64]worker
}

// file is its form on disk. What a worker has said is in the form in which it says it.
type file struct {
	Schema      int              `json:"schema"`
	Boot        string           `json:"boot"` // the kernel's id of this boot
	Service     fileTotals       `json:"service"`
	Generations []fileGeneration `json:"generations,omitempty"`
	Workers     []fileWorker     `json:"workers,omitempty"`
	Rollouts    []fileOutcome    `json:"rollouts,omitempty"`
	Stages      []fileStage      `json:"stages,omitempty"`
	UnderWay    []fileUnderWay   `json:"under_way,omitempty"`
	Restarts    uint64           `json:"restarts,omitempty"`
}

type fileTotals struct {
	Routes     []ipc.RouteCounts   `json:"routes,omitempty"`
	Measures   []ipc.MeasureCounts `json:"measures,omitempty"`
	Accepted   map[string]uint64   `json:"accepted,omitempty"`
	HandedOver uint64              `json:"handed_over,omitempty"`
	Cut        uint64              `json:"cut,omitempty"`
	Lost       uint64              `json:"lost,omitempty"`
	Refused    uint64              `json:"refused,omitempty"`
	SlowBodies uint64              `json:"slow_bodies,omitempty"`
}

type fileGeneration struct {
	ID uint64 `json:"id"`
	fileTotals
}

type fileWorker struct {
	ID         uint64 `json:"id"`
	Generation uint64 `json:"generation"`
	Counts     bool   `json:"counts,omitempty"` // it has said counts
	fileTotals
}

type fileOutcome struct {
	What    string `json:"what"`
	Outcome string `json:"outcome"`
	Count   uint64 `json:"count"`
}

type fileStage struct {
	Stage   string  `json:"stage"`
	Count   uint64  `json:"count"`
	Seconds float64 `json:"seconds"`
}

type fileUnderWay struct {
	Rollout uint64    `json:"rollout"`
	Stage   string    `json:"stage"`
	Since   time.Time `json:"since"`
}

// Changed reports whether there is something that the last Save did not have.
func (s *Set) Changed() bool { return s.changed }

// Save copies what the next master needs. [Saved.Encode] may be called beside the loop.
func (s *Set) Save() Saved {
	s.changed = false
	out := Saved{snapshot: s.Snapshot(), underWay: maps.Clone(s.underWay),
		workers: make(map[uint64]worker, len(s.workers))}
	for id, w := range s.workers {
		is := worker{generation: w.generation, said: w.said, stats: w.stats,
			measures: maps.Clone(w.measures), accepted: maps.Clone(w.accepted),
			routes: make(map[string]map[string]ipc.RouteCounts, len(w.routes))}
		for listener, routes := range w.routes {
			is.routes[listener] = maps.Clone(routes)
		}
		out.workers[id] = is
	}
	return out
}

// Unsaved says that what the last Save returned was not written.
func (s *Set) Unsaved() { s.changed = true }

// Encode is the form on disk, for masters of this boot.
func (s Saved) Encode(boot string) ([]byte, error) {
	f := file{Schema: schema, Boot: boot, Service: encodeTotals(s.snapshot.Service), Restarts: s.snapshot.Restarts}
	for _, g := range slices.Sorted(maps.Keys(s.snapshot.Generations)) {
		f.Generations = append(f.Generations, fileGeneration{g, encodeTotals(s.snapshot.Generations[g])})
	}
	for _, id := range slices.Sorted(maps.Keys(s.workers)) {
		f.Workers = append(f.Workers, encodeWorker(id, s.workers[id]))
	}
	for o, n := range s.snapshot.Rollouts {
		f.Rollouts = append(f.Rollouts, fileOutcome{o.What, o.Outcome, n})
	}
	slices.SortFunc(f.Rollouts, func(a, b fileOutcome) int {
		return cmp.Or(cmp.Compare(a.What, b.What), cmp.Compare(a.Outcome, b.Outcome))
	})
	for _, name := range slices.Sorted(maps.Keys(s.snapshot.Stages)) {
		d := s.snapshot.Stages[name]
		f.Stages = append(f.Stages, fileStage{name, d.Count, d.Seconds})
	}
	for _, r := range slices.Sorted(maps.Keys(s.underWay)) {
		f.UnderWay = append(f.UnderWay, fileUnderWay{r, s.underWay[r].name, s.underWay[r].since})
	}
	return json.Marshal(f)
}

func encodeTotals(t Totals) fileTotals {
	out := fileTotals{Accepted: t.Accepted, HandedOver: t.HandedOver, Cut: t.Cut, Lost: t.Lost, Refused: t.Refused,
		SlowBodies: t.SlowBodies}
	for k, r := range t.Routes {
		out.Routes = append(out.Routes, ipc.RouteCounts{Listener: k.Listener, Route: k.Route, Status: r.Status,
			BytesIn: r.BytesIn, BytesOut: r.BytesOut, NS: r.NS, Latency: pairs(&r.Latency)})
	}
	for name, m := range t.Measures {
		out.Measures = append(out.Measures, ipc.MeasureCounts{Name: name, Total: m.Total, Observed: m.Observed, Sum: m.Sum})
	}
	return out.sorted()
}

func encodeWorker(id uint64, w worker) fileWorker {
	out := fileWorker{ID: id, Generation: w.generation, Counts: w.said, fileTotals: fileTotals{Accepted: w.accepted,
		HandedOver: w.stats.Moved, Cut: w.stats.Cut, Refused: w.stats.Refused, SlowBodies: w.stats.SlowBodies}}
	for _, routes := range w.routes {
		out.Routes = slices.AppendSeq(out.Routes, maps.Values(routes))
	}
	out.Measures = slices.Collect(maps.Values(w.measures))
	out.fileTotals = out.sorted()
	return out
}

// sorted has the same content in the same form.
func (t fileTotals) sorted() fileTotals {
	slices.SortFunc(t.Routes, func(a, b ipc.RouteCounts) int {
		return cmp.Or(cmp.Compare(a.Listener, b.Listener), cmp.Compare(a.Route, b.Route))
	})
	slices.SortFunc(t.Measures, func(a, b ipc.MeasureCounts) int { return cmp.Compare(a.Name, b.Name) })
	return t
}

// Restore goes on where the master before has stopped, in a set that has counted nothing yet. Of
// workers it takes those that are there. When it returns an error, the set is as it was.
func (s *Set) Restore(text []byte, boot string, there func(worker, generation uint64) bool) error {
	var head struct {
		Schema int    `json:"schema"`
		Boot   string `json:"boot"`
	}
	if err := json.Unmarshal(text, &head); err != nil {
		return fmt.Errorf("it is damaged: %w", err)
	}
	switch {
	case head.Schema > schema:
		return fmt.Errorf("a newer masterd wrote it (schema %d, this one knows up to %d)", head.Schema, schema)
	case head.Schema < 1:
		return errors.New("it is damaged: it has no schema number")
	case head.Boot != boot:
		return errors.New("it is of another boot")
	}
	var f file
	if err := json.Unmarshal(text, &f); err != nil {
		return fmt.Errorf("it is damaged: %w", err)
	}
	f.Service.decode(s.service)
	for _, g := range f.Generations {
		t := newTotals()
		g.decode(t)
		s.generations[g.ID] = t
	}
	for _, w := range f.Workers {
		if there(w.ID, w.Generation) {
			s.workers[w.ID] = w.decode()
		}
	}
	for _, o := range f.Rollouts[:min(len(f.Rollouts), maxOutcomes)] {
		s.rollouts[Outcome{o.What, o.Outcome}] = o.Count
	}
	for _, d := range f.Stages[:min(len(f.Stages), maxStages)] {
		s.stages[d.Stage] = Duration{d.Count, max(d.Seconds, 0)}
	}
	for _, r := range f.UnderWay[:min(len(f.UnderWay), maxUnderWay)] {
		s.underWay[r.Rollout] = stage{r.Stage, r.Since}
	}
	s.restarts = f.Restarts
	return nil
}

func (f fileTotals) decode(t *totals) {
	for _, listener := range slices.Sorted(maps.Keys(f.Accepted)) {
		t.accept(listener, f.Accepted[listener])
	}
	for _, r := range f.Routes {
		by, _ := grown(ipc.RouteCounts{}, r)
		t.route(RouteKey{r.Listener, r.Route}).add(&by)
	}
	for _, m := range f.Measures {
		t.measure(m.Name, Measure{m.Total, m.Observed, m.Sum})
	}
	t.HandedOver, t.Cut, t.Lost, t.Refused, t.SlowBodies = f.HandedOver, f.Cut, f.Lost, f.Refused, f.SlowBodies
}

func (f fileWorker) decode() *worker {
	w := newWorker(f.Generation)
	w.said = f.Counts
	w.stats = ipc.Stats{Moved: f.HandedOver, Cut: f.Cut, Refused: f.Refused, SlowBodies: f.SlowBodies}
	var none sums
	for i := range none {
		none[i] = newTotals() // the sums have it
	}
	for listener, n := range f.Accepted {
		w.accept(listener, n, none)
	}
	for _, r := range f.Routes {
		w.route(r, none)
	}
	for _, m := range f.Measures {
		w.measure(m, none)
	}
	return w
}
