package proc

// Found is a process that looks like a worker, or like something that one has started.
type Found struct {
	PID   int
	Begun string   // for [Adopt]
	Env   []string // as it was started with
	Leads bool     // its process group
}
