package takeover

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os/exec"
	"strings"
	"sync"
	"time"

	"github.com/masterd/masterd/pkg/master/config"
	"github.com/masterd/masterd/pkg/master/rollout"
	"github.com/masterd/masterd/pkg/master/state"
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
	// proveTimeout bounds a new binary's proof that it could take over.
	proveTimeout = 15 * time.Second
	// proveReads bounds how often the proof reads live.json, when the running master
	// drops what it has just named.
	proveReads = 10
)

// Prove says whether a masterd of this build could take over the service of a
// configuration: it reads what it would have to, and changes nothing.
func Prove(cfg *config.Config, parse func([]byte) (*config.Config, error)) error {
	if err := errors.Join(state.TryDirs(cfg.RuntimeDir, cfg.StateDir),
		config.Refused(cfg.Listeners, cfg.Worker.EnvFiles), config.RefusedLog(cfg)); err != nil {
		return err
	}
	var recovered *state.RecoveredError
	if _, err := state.Load(cfg.StateDir); err != nil && !errors.As(err, &recovered) {
		return err
	}
	for reads := 1; ; reads++ {
		l, err := state.LoadLive(cfg.RuntimeDir, state.Boot())
		if err != nil || l == nil {
			return err
		}
		// The master that runs goes on meanwhile: what this live.json names it may
		// have dropped since, and then there is a newer one.
		if err = readConfigs(cfg.RuntimeDir, l, parse); err == nil {
			return rollout.CheckSnapshot(l.Machine)
		}
		if !errors.Is(err, fs.ErrNotExist) || reads == proveReads {
			return err
		}
	}
}

// readConfigs reads all that a next master would have to.
func readConfigs(dir string, l *state.Live, parse func([]byte) (*config.Config, error)) error {
	for _, g := range l.Generations {
		if _, err := (left{dir, l, parse}).config(g); err != nil {
			return fmt.Errorf("the configuration that runs: %w", err)
		}
	}
	return nil
}

// ProveBinary has a binary prove itself, in a process of its own, and returns
// the version that it says it is. It runs as the real thing will: in the same
// directory, with the same flags and environment.
func ProveBinary(ctx context.Context, self Self) (string, error) {
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

// bounded keeps the beginning of what is written to it. The buffer has a name: os/exec
// would copy by its ReadFrom, which knows neither the lock nor the bound.
type bounded struct {
	mu   sync.Mutex // two goroutines copy into it
	kept bytes.Buffer
}

func (b *bounded) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if room := maxProof - b.kept.Len(); room > 0 {
		b.kept.Write(p[:min(room, len(p))])
	}
	return len(p), nil
}

// String is what was kept, once nobody writes any more.
func (b *bounded) String() string { return b.kept.String() }
