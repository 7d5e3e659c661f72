package generations

import (
	"context"
	"fmt"

	"go.uber.org/zap"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/pkg/master/hook"
	"github.com/masterd/masterd/pkg/master/rollout"
)

// Hook runs the hooks that come after a rollout, beside the loop; how they end
// changes nothing.
func (s *Set) Hook(c rollout.Hook) {
	hooks := s.inForce.config.Rollout.Hooks.After
	if c.Name == "failed" {
		hooks = s.inForce.config.Rollout.Hooks.Failed
	}
	facts := hook.Facts{
		Service: s.inForce.config.Service, Rollout: uint64(c.Rollout), Generation: uint64(c.Entry.To),
		Version: c.Entry.Version.Label,
		Digest:  c.Entry.Version.Digest, Outcome: Result(c.Entry.Code), Stage: string(c.Entry.Stage), Reason: c.Entry.Reason,
		TraceID: s.Trace(c.Rollout),
	}
	s.Loop.Go(func() {
		ctx, cancel := context.WithTimeout(s.Loop.Life(), hook.Timeout)
		defer cancel()
		if err := s.runHooks(ctx, c.Name, hooks, facts); err != nil {
			s.Log.Warn("a hook failed", zap.Error(err))
		}
	})
}

// runHooks runs argument lists in order; the first that fails ends it.
func (s *Set) runHooks(ctx context.Context, name string, hooks [][]string, f hook.Facts) error {
	f.Hook, f.Environ = name, s.HookEnv
	for i, h := range hooks {
		out, err := hook.Run(ctx, h, f)
		if len(out) > 0 {
			s.Log.Info("hook", zap.String("hook", name), zap.Strings("command", h), zap.ByteString("output", out),
				zap.String("trace_id", f.TraceID))
		}
		if err != nil {
			return fmt.Errorf("the %q hook %d (%s): %w", name, i+1, h[0], err)
		}
	}
	return nil
}

// Result is the word for a code in the API, and for hooks.
func Result(c rollout.Code) string {
	switch c {
	case rollout.Done:
		return api.ResultDone
	case rollout.Failed:
		return api.ResultFailed
	case rollout.RolledBack:
		return api.ResultRolledBack
	case rollout.Held:
		return api.ResultHeld
	case rollout.Superseded:
		return api.ResultSuperseded
	}
	return api.ResultInvalid
}
