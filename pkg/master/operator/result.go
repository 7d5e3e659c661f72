package operator

import (
	"slices"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/pkg/master/rollout"
	"github.com/masterd/masterd/pkg/master/version"
)

// result is what became of a version when it was last tried, as the history says, oldest
// entry first. What it has forgotten, or an earlier masterd wrote, is known of versions that
// were baked only.
func result(st rollout.Status, history []api.Entry, v version.Version) string {
	for _, g := range st.Generations {
		if g.Version.ID == v.ID && g.ID == st.Active && !g.Baked {
			return "baking"
		}
	}
	for _, e := range slices.Backward(history) {
		if e.Rollout == 0 || e.VersionID != v.ID {
			continue
		}
		switch {
		case e.Outcome == api.ResultRolledBack:
			return "rolled back"
		case e.Outcome == api.ResultFailed:
			return "failed at " + e.Stage
		case e.Outcome == api.ResultSuperseded:
			return "given up"
		case e.Stage == string(rollout.StageBaked):
			return "baked"
		}
	}
	named := func(x rollout.Version) bool { return x.ID == v.ID }
	if st.Baked != nil && named(*st.Baked) || slices.ContainsFunc(st.Kept, named) {
		return "baked"
	}
	return "never baked"
}
