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
	// Connections, and those of them with an error, by weight: at one place in both.
	drawn, failed []analysis.Units
	verdict       analysis.Verdict
}

func newRollout(id uint64, st Settings, first time.Duration) *rollout {
	r := &rollout{id: id, settings: st, first: first}
	r.judge()
	return r
}

// add adds what was counted at a weight. It reports whether that was anything. Nothing is added
// to what has failed: the figures are those by which it did.
func (r *rollout) add(weight float64, by counts) bool {
	if by == (counts{}) || r.verdict.Outcome == analysis.Fail || !isWeight(weight) {
		return false
	}
	i := slices.IndexFunc(r.drawn, func(u analysis.Units) bool { return u.Weight == weight })
	if i < 0 {
		if i = len(r.drawn); i >= maxWeights {
			return false
		}
		r.drawn = append(r.drawn, analysis.Units{Weight: weight})
		r.failed = append(r.failed, analysis.Units{Weight: weight})
	}
	add(&r.drawn[i].Candidate, by.candidate.Drawn)
	add(&r.drawn[i].Stable, by.stable.Drawn)
	add(&r.failed[i].Candidate, by.candidate.Failed)
	add(&r.failed[i].Stable, by.stable.Failed)
	r.judge()
	return true
}

func (r *rollout) judge() {
	r.verdict = analysis.Judge(r.settings.Alpha, r.drawn, []analysis.Measure{{Ratio: r.settings.Ratio, Units: r.failed}})
	r.verdict.Evidence = min(r.verdict.Evidence, math.MaxFloat64) // JSON knows no infinity
}

func (r *rollout) sides() (candidate, stable Side) {
	for i := range r.drawn {
		add(&candidate.Drawn, r.drawn[i].Candidate)
		add(&candidate.Failed, r.failed[i].Candidate)
		add(&stable.Drawn, r.drawn[i].Stable)
		add(&stable.Failed, r.failed[i].Stable)
	}
	return candidate, stable
}

// isWeight reports whether errors at this weight say anything.
func isWeight(w float64) bool { return w > 0 && w < 1 }

// add adds. A sum that has no room stays where it is.
func add(to *uint64, n uint64) {
	if *to += n; *to < n {
		*to = math.MaxUint64
	}
}
