package metrics

import (
	"maps"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/pkg/master/counters"
)

// Of rollouts.
var (
	rollouts = counter("masterd_rollouts_total",
		"What the history has, by how it ended.", "what", "outcome")
	stages = other("masterd_rollout_stage_duration_seconds",
		"How long rollouts were in their stages.", "stage")
	restarts = counter("masterd_worker_restarts_total",
		"Workers that were started in the place of one that ended unasked.")

	running = gauge("masterd_rollout_running",
		"1 while a rollout is in this stage; there is none otherwise.", "what", "stage")
	stageAt = gauge("masterd_rollout_stage_start_time_seconds",
		"When its stage began, in seconds since the epoch.")
	evidence = gauge("masterd_rollout_evidence_ratio",
		"What has been compared speaks against the candidate; from 1 on it does worse than the version before.")
	compared = gauge("masterd_rollout_compared_connections",
		"Connections that were compared, of the candidate and of the version before it (stable).", "side")
	comparedErrors = gauge("masterd_rollout_compared_connections_with_error",
		"Those of them that had an error.", "side")
	stageEnd = gauge("masterd_rollout_stage_deadline_seconds",
		"When its stage must have ended, in seconds since the epoch.")
)

// firstRollouts are there from the beginning: a counter whose first value is 1 has not increased,
// so no rule would see the first rollout that fails.
var firstRollouts = func() map[counters.Outcome]uint64 {
	first := map[counters.Outcome]uint64{}
	for _, what := range []string{"start", "reload", "rollback", "loop"} {
		for _, outcome := range []string{api.ResultDone, api.ResultFailed, api.ResultRolledBack} {
			first[counters.Outcome{What: what, Outcome: outcome}] = 0
		}
	}
	return first
}()

func (s sink) rollouts(st api.Status, c counters.Snapshot) {
	ended := maps.Clone(firstRollouts)
	maps.Copy(ended, c.Rollouts)
	for o, n := range ended {
		s.send(rollouts, float64(n), o.What, o.Outcome)
	}
	for stage, d := range c.Stages {
		s.summary(stages, d.Count, d.Seconds, stage)
	}
	s.send(restarts, float64(c.Restarts))
	r := st.Rollout
	if r == nil {
		return
	}
	s.send(running, 1, r.What, r.Stage)
	s.send(stageAt, unix(r.Since))
	if !r.Deadline.IsZero() {
		s.send(stageEnd, unix(r.Deadline))
	}
	if a := r.Analysis; a != nil {
		s.send(evidence, a.Evidence/a.Wanted)
		for side, c := range map[string]api.Compared{"candidate": a.Candidate, "stable": a.Stable} {
			s.send(compared, float64(c.Connections), side)
			s.send(comparedErrors, float64(c.WithError), side)
		}
	}
}
