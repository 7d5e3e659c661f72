package generations

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"time"

	"github.com/masterd/masterd/pkg/master/config"
	"github.com/masterd/masterd/pkg/master/hook"
)

// requireAgain is the time between two tries of what must be well before a rollout.
const requireAgain = time.Second

// require waits until all is well that a configuration names, at most as long as it
// says. The error names the first that is not, and why.
func (s *Set) require(ctx context.Context, r config.Require, f hook.Facts) error {
	if len(r.Commands)+len(r.TCP)+len(r.HTTP) == 0 {
		return nil
	}
	begun := time.Now()
	ctx, cancel := context.WithTimeout(ctx, r.Timeout)
	defer cancel()
	for {
		err := s.unwell(ctx, r, f)
		if err == nil {
			return nil
		}
		select {
		case <-time.After(requireAgain):
		case <-ctx.Done():
		}
		if ctx.Err() != nil {
			return fmt.Errorf("what rollout.require names is not well after %s, and nothing was started: %w",
				time.Since(begun).Round(time.Second/10), err)
		}
	}
}

// unwell tries everything once.
func (s *Set) unwell(ctx context.Context, r config.Require, f hook.Facts) error {
	f.Hook, f.Environ = "require", s.HookEnv
	for _, c := range r.Commands {
		if _, err := hook.Run(ctx, c, f); err != nil {
			return fmt.Errorf("command %s: %w", c[0], err)
		}
	}
	for _, at := range r.TCP {
		network := "tcp"
		if filepath.IsAbs(at) {
			network = "unix"
		}
		var d net.Dialer
		c, err := d.DialContext(ctx, network, at)
		if err != nil {
			return fmt.Errorf("connecting to %s: %w", at, err)
		}
		_ = c.Close()
	}
	client := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{DisableKeepAlives: true}}
	for _, at := range r.HTTP {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, at, nil)
		if err != nil {
			return err
		}
		a, err := client.Do(req)
		if err != nil {
			return err
		}
		_ = a.Body.Close()
		if a.StatusCode < 200 || a.StatusCode > 299 {
			return fmt.Errorf("GET %s: %s", at, a.Status)
		}
	}
	return nil
}
