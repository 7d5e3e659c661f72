package operator

import (
	"slices"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/pkg/master/analysis"
	"github.com/masterd/masterd/pkg/master/compare"
)

// analysis is what was compared of a rollout; nil: nothing was.
func (b *Backend) analysis(rollout uint64) *api.Analysis {
	r, ok := b.Workers.Comparisons.Result()
	if !ok || r.Rollout != rollout {
		return nil
	}
	side := func(s compare.Side) api.Compared { return api.Compared{Connections: s.Drawn, WithError: s.Had} }
	errs := r.Measures[compare.Errors]
	out := &api.Analysis{
		Outcome: string(r.Outcome), Evidence: r.Evidence, Wanted: r.Wanted, Unchanged: r.Settings.Unchanged,
		Candidate: side(errs.Candidate), Stable: side(errs.Stable),
		WaitsFor: r.Missing, Cannot: r.Cannot, ErrorsOnly: r.ErrorsOnly,
	}
	for i, m := range r.Measures {
		if i != compare.Errors {
			out.Measures = append(out.Measures, measure(m))
		}
		if i == compare.Latency {
			of := b.LatencyRecord()
			out.Measures[0].Record = &api.Record{Rollouts: of.Rollouts, Slower: of.Slower, Wanted: compare.RecordWanted}
		}
	}
	return out
}

func measure(m compare.Measured) api.Measure {
	side := func(s compare.Side) api.Hit { return api.Hit{Connections: s.Drawn, Hit: s.Had} }
	return api.Measure{Name: m.Name, Acts: m.Acts, Outcome: string(m.Outcome), Evidence: m.Evidence,
		Candidate: side(m.Candidate), Stable: side(m.Stable)}
}

// LatencyRecord is what reloads of an unchanged program have shown.
func (b *Backend) LatencyRecord() compare.Record { return latencyRecord(b.Audit.Last(api.MaxHistory)) }

// latencyRecord is what a history, oldest first, says of that.
func latencyRecord(entries []api.Entry) (r compare.Record) {
	for _, e := range slices.Backward(entries) {
		if e.Analysis == nil || !e.Analysis.Unchanged || r.Rollouts == compare.RecordWanted {
			continue
		}
		for _, m := range e.Analysis.Measures {
			switch {
			case m.Name != compare.NameLatency:
			case m.Outcome == string(analysis.Fail):
				r.Slower++
				r.Rollouts++
			case m.Outcome == string(analysis.Pass):
				r.Rollouts++
			}
		}
	}
	return r
}
