package compare

import (
	"math"
	"slices"
	"time"

	"github.com/masterd/masterd/pkg/master/analysis"
)

// maxWeights is how many weights one rollout may have; a rollout has fewer steps. Of those after
// them nothing counts.
const maxWeights = 64

// rollout is what is known of one.
type rollout struct {
	id       uint64
	settings Settings
	first    time.Duration // when its first interval began
	weights  []float64     // that it had
	measures []measure     // as in the settings
	verdict  analysis.Verdict
}

// measure is what is known of one, by weight.
type measure struct {
	drawn, had []analysis.Units
	alone      analysis.Verdict // if it were the only one
	failed     bool             // it would have, once
}

func newRollout(id uint64, st Settings, first time.Duration) *rollout {
	r := &rollout{id: id, settings: st, first: first, measures: make([]measure, len(st.Measures))}
	r.judge()
	return r
}

// add adds what was counted at a weight. It reports whether that was anything. Nothing is added
// to what has failed: the figures are those by which it did.
func (r *rollout) add(weight float64, by counts) bool {
	if by == (counts{}) || r.verdict.Outcome == analysis.Fail || !isWeight(weight) {
		return false
	}
	at := slices.Index(r.weights, weight)
	if at < 0 {
		if at = len(r.weights); at >= maxWeights {
			return false
		}
		r.addWeight(weight)
	}
	for i := range r.measures {
		drawn, had := &r.measures[i].drawn[at], &r.measures[i].had[at]
		add(&drawn.Candidate, by.candidate[i].Drawn)
		add(&drawn.Stable, by.stable[i].Drawn)
		add(&had.Candidate, by.candidate[i].Had)
		add(&had.Stable, by.stable[i].Had)
	}
	r.judge()
	return true
}

func (r *rollout) addWeight(weight float64) {
	r.weights = append(r.weights, weight)
	for i := range r.measures {
		m := &r.measures[i]
		m.drawn = append(m.drawn, analysis.Units{Weight: weight})
		m.had = append(m.had, analysis.Units{Weight: weight})
	}
}

// judge asks what each measure comes to, and those together on which the outcome depends.
func (r *rollout) judge() {
	var all []analysis.Measure
	for i := range r.measures {
		m, of := &r.measures[i], r.settings.Measures[i]
		is := analysis.Measure{Ratio: of.Ratio, Drawn: m.drawn, Units: m.had}
		m.alone = analysis.Judge(r.settings.Alpha, []analysis.Measure{is})
		m.failed = m.failed || m.alone.Outcome == analysis.Fail
		if of.Acts {
			all = append(all, is)
		}
	}
	r.verdict = analysis.Judge(r.settings.Alpha, all)
	r.verdict.Evidence = finite(r.verdict.Evidence)
}

// measured is what is known of each.
func (r *rollout) measured() (all []Measured) {
	for i, m := range r.measures {
		of := Measured{Measure: r.settings.Measures[i], Outcome: m.alone.Outcome, Evidence: finite(m.alone.Evidence)}
		if m.failed {
			of.Outcome = analysis.Fail
		}
		for k := range m.drawn {
			add(&of.Candidate.Drawn, m.drawn[k].Candidate)
			add(&of.Candidate.Had, m.had[k].Candidate)
			add(&of.Stable.Drawn, m.drawn[k].Stable)
			add(&of.Stable.Had, m.had[k].Stable)
		}
		all = append(all, of)
	}
	return all
}

// finite is as much evidence as JSON knows.
func finite(evidence float64) float64 { return min(evidence, math.MaxFloat64) }

// isWeight reports whether errors at this weight say anything.
func isWeight(w float64) bool { return w > 0 && w < 1 }

// add adds. A sum that has no room stays where it is.
func add(to *uint64, n uint64) {
	if *to += n; *to < n {
		*to = math.MaxUint64
	}
}
