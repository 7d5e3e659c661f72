package probe

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

const (
	maxOutput = 4 << 10                // bytes of a command's output that are kept, the last ones
	pipeDelay = 100 * time.Millisecond // wait for what has left the command's group and still holds its output
)

// checkCommand runs the command in a process group of its own, which is gone
// when it returns.
func (c *Checker) checkCommand(ctx context.Context, w Worker) error {
	args := c.health.Command
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("command %s: not started: %w", args[0], err)
	}
	started := time.Now()
	var out tail
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env = append(c.environ[:len(c.environ):len(c.environ)],
		"MASTERD_WORKER_ID="+strconv.FormatUint(w.ID, 10),
		"MASTERD_WORKER_GENERATION="+strconv.FormatUint(w.Generation, 10),
		"MASTERD_WORKER_PID="+strconv.Itoa(w.PID),
		"MASTERD_WORKER_VERSION="+w.Version,
	)
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.WaitDelay = pipeDelay
	killed, err := runGroup(ctx, cmd)
	if errors.Is(err, exec.ErrWaitDelay) {
		err = nil // it ended well; somebody who left its group still holds the output
	}
	switch {
	case killed && errors.Is(ctx.Err(), context.Canceled):
		return fmt.Errorf("command %s: the check was called off", args[0])
	case killed:
		err = fmt.Errorf("not done within %s, killed", time.Since(started).Round(time.Millisecond))
	case err == nil:
		return nil
	}
	if last := oneLine(out.lastLine()); last != "" {
		return fmt.Errorf("command %s: %w: %s", args[0], err, last)
	}
	return fmt.Errorf("command %s: %w", args[0], err)
}

// tail keeps the last bytes written to it.
type tail struct{ kept []byte }

func (t *tail) Write(p []byte) (int, error) {
	n := len(p)
	if n > maxOutput {
		p = p[n-maxOutput:]
	}
	if over := len(t.kept) + len(p) - maxOutput; over > 0 {
		t.kept = append(t.kept[:0], t.kept[over:]...)
	}
	t.kept = append(t.kept, p...)
	return n, nil
}

func (t *tail) lastLine() string {
	s := strings.TrimSpace(string(t.kept))
	return s[strings.LastIndexByte(s, '\n')+1:]
}
