package api

// Step is one of a canary: the candidate's part of new connections, beside the generation
// before it.
type Step struct {
	Weight float64  `json:"weight"`         // percent
	Hold   Duration `json:"hold,omitempty"` // zero: until it is promoted
}

// PromoteRequest ends a step of a canary, or a bake or a confirmation, as passed.
type PromoteRequest struct {
	All    bool   `json:"all,omitempty"` // all steps that are left: the candidate gets all new connections
	Reason string `json:"reason,omitempty"`
}
