package process

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

const (
	maxEnviron = 1 << 20 // bytes read of one environment
	execPause  = time.Millisecond
	execLimit  = 500 * time.Millisecond
)

// Environ is the environment that a process was started with; nil: it cannot be
// read, or not at this moment; see [Environs].
func Environ(pid int) []string {
	f, err := os.Open(fmt.Sprintf("/proc/%d/environ", pid))
	if err != nil {
		return nil
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxEnviron))
	if err != nil || len(text) == 0 {
		return nil
	}
	return strings.Split(strings.TrimSuffix(string(text), "\x00"), "\x00")
}

// Environs reads the environments of many processes. While execve gives a process
// another program there is none to be read, and whoever looks for workers just then
// would miss one. Of waits until it is there: for all processes together not longer than
// execLimit, as a program from a file system of its own can make that moment last. It
// blocks for that long, so it is not for the loop.
type Environs struct{ waited time.Duration }

// Of is the environment that a process was started with; nil: it cannot be read.
func (e *Environs) Of(pid int) []string {
	for {
		if env := Environ(pid); env != nil {
			return env
		}
		if s, err := StatusOf(pid); err != nil || s.NoEnviron || e.waited >= execLimit {
			return nil
		}
		time.Sleep(execPause)
		e.waited += execPause
	}
}
