// Package hook runs an operator's hooks: argument lists, without a shell, in a
// process group of their own that does not outlive its time. [Run] waits for the
// hook, so it is called beside the loop.
package hook

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/masterd/masterd/pkg/master/proc"
)

const (
	// Timeout is the longest that hooks after a rollout may take, together.
	Timeout = 5 * time.Minute
	// maxOutput is how much of a hook's output is kept, in bytes; the rest is
	// dropped.
	maxOutput = 4 << 10
	// waitDelay is how long a killed hook's open pipes are waited for.
	waitDelay = time.Second
)

// Facts are given to a hook in its environment, as MASTERD_HOOK,
// MASTERD_SERVICE and so on, after Environ; empty ones are left out.
type Facts struct {
	Environ    []string // "NAME=value"
	Hook       string
	Service    string
	Rollout    uint64
	Generation uint64
	Version    string
	Digest     string
	Outcome    string
	Stage      string
	Reason     string
	TraceID    string
}

func (f Facts) environ() []string {
	env := slices.Clone(f.Environ)
	add := func(k, v string) {
		if v != "" && v != "0" {
			env = append(env, "MASTERD_"+k+"="+strings.ReplaceAll(v, "\x00", "")) // with one nothing would be run
		}
	}
	add("HOOK", f.Hook)
	add("SERVICE", f.Service)
	add("ROLLOUT", strconv.FormatUint(f.Rollout, 10))
	add("GENERATION", strconv.FormatUint(f.Generation, 10))
	add("VERSION", f.Version)
	add("DIGEST", f.Digest)
	add("OUTCOME", f.Outcome)
	add("STAGE", f.Stage)
	add("REASON", f.Reason)
	add("TRACE_ID", f.TraceID)
	return env
}

// Run runs one hook and returns the beginning of what it wrote, on both streams together.
// When ctx ends, its whole process group is killed, and the error says that it took too long.
// Other errors end with the last line of the output. It may be called from any goroutine.
func Run(ctx context.Context, args []string, f Facts) ([]byte, error) {
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	out := &bounded{}
	cmd.Env, cmd.Stdout, cmd.Stderr = f.environ(), out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = waitDelay
	err := proc.StartCommand(cmd)
	if err == nil {
		err = cmd.Wait()
	}
	if err != nil {
		if ctx.Err() != nil {
			err = fmt.Errorf("it took too long and was killed")
		}
		if last := out.lastLine(); last != "" {
			err = fmt.Errorf("%w: %s", err, last)
		}
	} else if errors.Is(err, exec.ErrWaitDelay) {
		err = nil
	}
	return out.kept.Bytes(), err
}

// bounded keeps the first maxOutput bytes. The buffer is not embedded: its
// ReadFrom would take everything.
type bounded struct{ kept bytes.Buffer }

func (b *bounded) Write(p []byte) (int, error) {
	if room := maxOutput - b.kept.Len(); room > 0 {
		b.kept.Write(p[:min(room, len(p))])
	}
	return len(p), nil
}

func (b *bounded) lastLine() string {
	s := strings.TrimSpace(b.kept.String())
	return s[strings.LastIndexByte(s, '\n')+1:]
}
