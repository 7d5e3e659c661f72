package proc

import "errors"

// ErrGone: there is no such process, or its pid is somebody else's by now.
var ErrGone = errors.New("there is no such process any more")
