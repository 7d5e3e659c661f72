package master

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"
)

const (
	// ProofVerb is the hidden verb with which a masterd proves that it could take over.
	ProofVerb = "prove"
	// Proof begins what it then says; its version follows.
	Proof = "masterd can take over: "
	// maxProof is how much of what a binary says is read, in bytes.
	maxProof = 4 << 10
)

// proveBinary has a binary prove itself, in a process of its own, and returns
// the version that it says it is.
func proveBinary(ctx context.Context, program, file string, env []string) (string, error) {
	cmd := exec.CommandContext(ctx, program, ProofVerb, "--config", file)
	cmd.Env = env
	cmd.WaitDelay = time.Second
	var out bounded
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	text := strings.TrimSpace(out.String())
	switch version, ok := strings.CutPrefix(text, Proof); {
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
type bounded struct{ bytes.Buffer }

func (b *bounded) Write(p []byte) (int, error) {
	if room := maxProof - b.Len(); room > 0 {
		b.Buffer.Write(p[:min(room, len(p))])
	}
	return len(p), nil
}
