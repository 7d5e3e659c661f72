package master

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"sync"
	"time"
)

const (
	// RunVerb is the verb of a master.
	RunVerb = "run"
	// ProofVerb is the hidden verb with which a masterd proves that it could take over.
	ProofVerb = "prove"
	// Proof begins what it then says; its version follows.
	Proof = "masterd can take over: "
	// maxProof is how much of what a binary says is read, in bytes.
	maxProof = 4 << 10
)

// proveBinary has a binary prove itself, in a process of its own, and returns
// the version that it says it is. It runs as the real thing will: in the same
// directory, with the same flags and environment.
func proveBinary(ctx context.Context, self Self) (string, error) {
	program := self.Program
	cmd := exec.CommandContext(ctx, program)
	cmd.Args, cmd.Env = self.Args(ProofVerb), self.Environ()
	cmd.WaitDelay = time.Second
	var out, all bounded // what goes to standard error is no part of the proof
	cmd.Stdout, cmd.Stderr = io.MultiWriter(&out, &all), &all
	err := cmd.Run()
	text := strings.TrimSpace(all.String())
	switch version, ok := strings.CutPrefix(strings.TrimSpace(out.String()), Proof); {
	case err == nil && ok:
		return version, nil
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return "", fmt.Errorf("%s has not proved within %s that it can take over", program, proveTimeout)
	case err == nil:
		return "", fmt.Errorf("%s is no masterd that can take over: asked to prove it, it says %q", program, text)
	case text != "":
		return "", fmt.Errorf("%s cannot take over: %s", program, text)
	default:
		return "", fmt.Errorf("%s cannot take over: %w", program, err)
	}
}

// bounded keeps the beginning of what is written to it.
type bounded struct {
	mu sync.Mutex // two goroutines copy into it
	bytes.Buffer
}

func (b *bounded) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if room := maxProof - b.Len(); room > 0 {
		b.Buffer.Write(p[:min(room, len(p))])
	}
	return len(p), nil
}
