package api

// Limits of the admin API, for both its ends.
const (
	MaxBody     = 64 << 10 // bytes of a request's body
	MaxHistory  = 1000     // entries that can be asked for at once
	MaxLogLines = 100_000  // lines that can be asked for at once, over all workers
	MaxLabel    = 64       // bytes of a label
	MaxReason   = 1024     // bytes of a reason
)

// What is answered when a number is not given.
const (
	DefaultHistory  = 20
	DefaultLogLines = 100
)

// SudoHeader carries the name of the user behind sudo. It is believed from
// root only, whom the kernel vouches for.
const SudoHeader = "X-Masterd-Sudo-User"

// StreamType is the content type of streamed answers: one JSON value a line.
const StreamType = "application/x-ndjson"
