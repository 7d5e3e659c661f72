package operator

import (
	"math"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/pkg/master/compare"
)

// mostEvidence is as much as is told: JSON knows no infinity.
const mostEvidence = 1e12

// analysis is what was compared of a rollout; nil: nothing was.
func (b *Backend) analysis(rollout uint64) *api.Analysis {
	r, ok := b.Workers.Comparisons.Result()
	if !ok || r.Rollout != rollout {
		return nil
	}
	side := func(s compare.Side) api.Compared { return api.Compared{Connections: s.Drawn, WithError: s.Failed} }
	return &api.Analysis{Outcome: string(r.Outcome), Evidence: math.Min(r.Evidence, mostEvidence), Wanted: r.Wanted,
		Candidate: side(r.Candidate), Stable: side(r.Stable), WaitsFor: r.Missing, Cannot: r.Cannot}
}
