package api

// Problem is any answer that is not 2xx: its HTTP status and what [Error]
// holds. Backends return it to say how a request is to be refused, and
// [Client] returns it to say how it was.
type Problem struct {
	Status  int    // HTTP status, 400 to 599
	Message string // a whole sentence for the operator
	Result  string // as in [Outcome] where it applies, else empty
}

func (p *Problem) Error() string { return p.Message }

// Versions is the answer of GET /v1/versions, newest first.
type Versions struct {
	Schema   int       `json:"schema"`
	Versions []Version `json:"versions"`
}

// Diff is the answer of GET /v1/versions/diff: how b differs from a, as lines
// ready to print. No lines: they are the same.
type Diff struct {
	Lines []string `json:"lines"`
}

// History is the answer of GET /v1/history, newest first.
type History struct {
	Schema  int     `json:"schema"`
	Entries []Entry `json:"entries"`

	File       string `json:"file,omitempty"`        // the one that grows; those that were full are beside it
	Line       uint64 `json:"line,omitempty"`        // number of the last line in it, from the first of all
	LineDigest string `json:"line_digest,omitempty"` // SHA-256 of that
}
