package api

// Analysis is how a candidate compares with the version beside it, by the connections that had an
// error while a canary had both serve.
type Analysis struct {
	// Outcome is "fail" once the candidate does worse; "pass" if so many connections came to it
	// that it would have been seen; else "inconclusive".
	Outcome string `json:"outcome"`
	// Evidence speaks against the candidate: 1 at first, and from Wanted on it fails.
	Evidence  float64  `json:"evidence"`
	Wanted    float64  `json:"wanted"`
	Candidate Compared `json:"candidate"`
	Stable    Compared `json:"stable"`              // the version before it
	WaitsFor  []uint64 `json:"waits_for,omitempty"` // workers without whose word nothing more is compared
	Cannot    uint64   `json:"cannot,omitempty"`    // a worker that does not count, so nothing is compared; zero: all do
	// Measures are the others that are compared: latency, and those of the program's own.
	Measures []Measure `json:"measures,omitempty"`
	// ErrorsOnly is a worker that counts errors alone, so nothing else is compared; zero: there is none.
	ErrorsOnly uint64 `json:"errors_only,omitempty"`
	// Unchanged: both versions are the same program, with the same configuration.
	Unchanged bool `json:"unchanged,omitempty"`
}

// Measure is one that is compared beside the errors.
type Measure struct {
	Name      string  `json:"name"`    // "latency", or that of the program's own
	Acts      bool    `json:"acts"`    // the analysis's outcome depends on it
	Outcome   string  `json:"outcome"` // as that of the analysis, if it were the only measure
	Evidence  float64 `json:"evidence"`
	Candidate Hit     `json:"candidate"`
	Stable    Hit     `json:"stable"`
	Record    *Record `json:"record,omitempty"` // of latency
}

// Record is what the newest reloads of an unchanged program have shown, which latency acts by.
type Record struct {
	Rollouts int `json:"rollouts"` // of which the outcome was clear
	Slower   int `json:"slower"`   // of them, those that latency would have taken back
	Wanted   int `json:"wanted"`   // so many, none of them slower
}

// Hit is what one version did.
type Hit struct {
	Connections uint64 `json:"connections"` // on which it could have been
	Hit         uint64 `json:"hit"`         // of them, those with a slow request, or on which the program has counted it
}

// Compared is what one version did.
type Compared struct {
	Connections uint64 `json:"connections"`
	WithError   uint64 `json:"with_error"`
}
