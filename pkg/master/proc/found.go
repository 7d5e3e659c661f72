package proc

// Found is a process that looks like a worker.
type Found struct {
	PID   int
	Begun string   // for [Adopt]
	Env   []string // as it was started with
}
