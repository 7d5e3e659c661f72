package process

import "errors"

// ErrGone: there is no such process, or its pid is somebody else's by now.
var ErrGone = errors.New("there is no such process any more")

// Found is a process that looks like a worker, or like something that one has started.
type Found struct {
	PID   int
	Begun string   // as [Begun] says it
	Env   []string // as it was started with
	Leads bool     // its process group
}
