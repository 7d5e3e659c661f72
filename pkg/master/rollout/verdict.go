package rollout

import "slices"

// verdict is how a rollout has ended that was alone, while the generation before is not
// back yet: it is told when that serves, with how long clients have waited.
type verdict struct {
	a      *attempt
	code   Code
	stage  Stage
	worker Worker
	why    string
}

// settleVerdict tells the end of a rollout that was alone, once the generation before
// serves again.
func (m *Machine) settleVerdict() {
	if m.verdict != nil && m.active.alive() && m.somebody && m.steering.confirmed() {
		m.verdict.a.waited = m.waited
		m.tellVerdict("; " + m.active.called() + " serves again" + m.verdict.a.waitedFor(", and "))
	}
}

// tellVerdict tells it with what is known of the generation before.
func (m *Machine) tellVerdict(more string) {
	v := m.verdict
	if v == nil {
		return
	}
	m.verdict = nil
	m.conclude(v.a, v.code, v.stage, m.workerOr(v.worker, v.a.gen), v.why+more)
}

// SnapVerdict is the end of a rollout that is told once the generation before is back.
type SnapVerdict struct {
	Attempt SnapAttempt `json:"attempt"`
	Code    Code        `json:"code"`
	Stage   Stage       `json:"stage"`
	Worker  Worker      `json:"worker,omitempty"`
	Why     string      `json:"why"`
	Version Version     `json:"version"`
}

func (v *verdict) snapshot() *SnapVerdict {
	if v == nil {
		return nil
	}
	s := &SnapVerdict{Attempt: v.a.snapshot(), Code: v.code, Stage: v.stage, Worker: v.worker, Why: v.why}
	if v.a.gen != nil {
		s.Version = v.a.gen.version
	}
	return s
}

func (s *SnapVerdict) verdict() *verdict {
	if s == nil {
		return nil
	}
	v := &verdict{a: s.Attempt.attempt(), code: s.Code, stage: s.Stage, worker: s.Worker, why: s.Why}
	if s.Attempt.Gen != 0 { // it may be gone
		v.a.gen = &generation{id: s.Attempt.Gen, version: s.Version}
	}
	return v
}

// Between reports whether one version made way for the next, so that nobody may live: what
// served comes back all the same.
func (s Snapshot) Between() bool {
	return slices.ContainsFunc(s.Generations, func(g SnapGeneration) bool { return g.ID == s.Active && g.Aside })
}
