//go:build !linux

package proc

import (
	"errors"
	"os/exec"
	"syscall"
	"time"
)

// Process is a started worker; on this system there is none.
type Process struct{ done chan struct{} }

// Start needs Linux: process groups, limits and descriptors are taken there in
// ways that other systems do not have.
func Start(s Spec) (*Process, error) {
	if err := s.check(); err != nil {
		return nil, &StartError{Program: s.Program, User: s.User, Dir: s.Dir, Reason: err.Error(), Err: err}
	}
	return nil, &StartError{Program: s.Program, User: s.User, Dir: s.Dir,
		Reason: "workers can be started on Linux only", Err: errors.ErrUnsupported}
}

// Bounding is everything: there are no capabilities.
func Bounding() uint64 { return ^uint64(0) }

// Begun cannot tell a reused pid here; being alive must do.
func Begun(pid int) (string, error) {
	if syscall.Kill(pid, 0) != nil {
		return "", ErrGone
	}
	return "-", nil
}

// Adopt needs Linux.
func Adopt(int, string, int) (*Process, error) { return nil, errors.ErrUnsupported }

// FindWorkers needs Linux.
func FindWorkers(string, func(env []string) bool) []Found { return nil }

// Sees is true: there are no namespaces.
func Sees(int, string) bool { return true }

// OrphanWait is between two looks.
const OrphanWait = time.Second

// Orphans needs Linux.
type Orphans struct{}

// Look does nothing.
func (o *Orphans) Look() int { return 0 }

// Contained is false: there are no cgroups.
func (p *Process) Contained() bool { return false }

// Belongs needs Linux.
func Belongs(int, int, func([]string) bool) (int, error) { return 0, errors.ErrUnsupported }

// Environ needs Linux.
func Environ(int) []string { return nil }

// Groups needs Linux.
func Groups() map[int][]int { return nil }

// Group needs Linux.
func Group(int) []int { return nil }

// PID is zero.
func (p *Process) PID() int { return 0 }

// Notes is empty.
func (p *Process) Notes() []string { return nil }

// Filter is none.
func (p *Process) Filter() int { return -1 }

// SignalAlone needs Linux.
func (p *Process) SignalAlone(syscall.Signal) error { return errors.ErrUnsupported }

// Spare does nothing.
func (p *Process) Spare(bool) {}

// Ended is of Linux.
func (p *Process) Ended() bool { return false }

// Done is never closed.
func (p *Process) Done() <-chan struct{} { return p.done }

// Exit is zero.
func (p *Process) Exit() Exit { return Exit{} }

// Signal needs Linux.
func (p *Process) Signal(syscall.Signal) error { return errors.ErrUnsupported }

// SetOOMScoreAdj needs Linux.
func (p *Process) SetOOMScoreAdj(int) error { return errors.ErrUnsupported }

// Close does nothing.
func (p *Process) Close() {}

// ShimMain returns: no process is a shim here.
func ShimMain() {}

// StartCommand starts an operator's program.
func StartCommand(cmd *exec.Cmd) error { return cmd.Start() }
