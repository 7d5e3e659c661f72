package serve

import (
	"fmt"
	"log/slog"

	"github.com/masterd/masterd/pkg/worker/internal/rotate"
)

// Listeners that are served by the program's own servers. What is asked of others is nothing.

// openCustom is open for such a listener. The servers are made by prepare.
func (c *Config) openCustom(t *Traffic, log *slog.Logger) *Listener {
	log = log.With("listener", c.Name)
	own, checks := rotate.New(c.Name, c.Make, t.Notify, log), rotate.New(c.Name, c.Make, func() {}, log)
	return &Listener{
		Config: c, log: log, traffic: t, counts: t.Counts.Listener(c.Name),
		limits: newConnLimits(c.MaxConns, c.MaxPerAddress),
		public: own, injected: own, rotator: own,
		probe: checks, probes: checks,
	}
}

// rotators are those for clients and those for health checks.
func (l *Listener) rotators() []*rotate.Rotator {
	if l.rotator == nil {
		return nil
	}
	return []*rotate.Rotator{l.rotator, l.probe.(*rotate.Rotator)}
}

// Prepare makes the first servers; what they need is ready. It may take as long as the
// program does.
func (l *Listener) Prepare() error {
	for _, s := range l.rotators() {
		if err := s.Prepare(); err != nil {
			return fmt.Errorf("listener %q: %w", l.Name, err)
		}
	}
	return nil
}

// Start has the first servers serve. The error of one that ends by itself is sent to broken,
// if that has room.
func (l *Listener) Start(broken chan<- error) error {
	for _, s := range l.rotators() {
		if err := s.Start(broken); err != nil {
			return fmt.Errorf("listener %q: %w", l.Name, err)
		}
	}
	return nil
}

// Rotate asks the clients of the current server to leave, and has a fresh one serve what
// still arrives. Where a fresh one cannot be had, the current one goes on: its clients
// lose nothing.
func (l *Listener) Rotate() {
	if l.rotator == nil {
		return
	}
	if l.rotator.Stopping() >= rotate.MaxStopping {
		l.log.Warn("worker: the current server goes on, too many before it wait for their clients",
			"waiting", rotate.MaxStopping)
		return
	}
	if err := l.rotator.Rotate(); err != nil {
		l.log.Error("worker: no fresh server to follow the current one, which goes on", "error", err)
	}
}

// Stopping: a server waits for its clients to leave.
func (l *Listener) Stopping() bool { return l.rotator != nil && l.rotator.Stopping() > 0 }

// CutServers stops every server, beside the caller.
func (l *Listener) CutServers() {
	if l.rotator != nil {
		l.rotator.Cut()
	}
}
