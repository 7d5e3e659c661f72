package operator

import (
	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/pkg/master/compare"
)

// analysis is what was compared of a rollout; nil: nothing was.
func (b *Backend) analysis(rollout uint64) *api.Analysis {
	r, ok := b.Workers.Comparisons.Result()
	if !ok || r.Rollout != rollout {
		return nil
	}
	side := func(s compare.Side) api.Compared { return api.Compared{Connections: s.Drawn, WithError: s.Failed} }
	return &api.Analysis{Outcome: string(r.Outcome), Evidence: r.Evidence, Wanted: r.Wanted,
		Candidate: side(r.Candidate), Stable: side(r.Stable), WaitsFor: r.Missing, Cannot: r.Cannot}
}
