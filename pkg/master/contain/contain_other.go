//go:build !linux

package contain

// Workers are the workers of one service.
type Workers struct{}

// Open does nothing.
func Open(Options) *Workers { return &Workers{} }

// Clean does nothing.
func Clean(string) (bool, error) { return false, nil }

// Cgroup is empty: there are none.
func (w *Workers) Cgroup() string { return "" }

// Cgroups are none.
func (w *Workers) Cgroups() []string { return nil }

// Why says why there are no cgroups.
func (w *Workers) Why() string { return "there are cgroups on Linux only" }

// Place says that there are none.
func (w *Workers) Place(uint64) (int, error) { return -1, nil }

// Processes are not known.
func (w *Workers) Processes(uint64) []int { return nil }

// Of does not know.
func (w *Workers) Of(int) (uint64, bool) { return 0, false }

// Left are not known.
func (w *Workers) Left() []uint64 { return nil }

// End does nothing.
func (w *Workers) End(Worker) ([]int, error) { return nil, nil }

// Remove does nothing.
func (w *Workers) Remove(uint64) {}

// Close does nothing.
func (w *Workers) Close() {}

// EndAll does nothing.
func (w *Workers) EndAll(...int) ([]int, error) { return nil, nil }
