// Package control is the life of a worker: what its environment says of it, the link to its
// master, and one loop that makes of the master's messages, of signals and of its program's
// functions what the worker does. The SDK's documentation has the states.
//
// Functions of the program's are waited for with a limit. Those that ignore their end, or hang
// where net/http calls them, are left behind when Run returns, and hold up neither signals nor
// the master's messages.
//
// A TERM that the master did not send leaves an active worker accepting, and its answers say
// Connection: close: the master does not know yet, and still steers clients to its queue.
package control

import (
	"context"
	"io"
	"log/slog"
	"os"
	"sync/atomic"
	"time"

	"github.com/masterd/masterd/pkg/ipc"
	"github.com/masterd/masterd/pkg/worker/internal/measure"
	"github.com/masterd/masterd/pkg/worker/internal/migrate"
	"github.com/masterd/masterd/pkg/worker/internal/serve"
	"github.com/masterd/masterd/pkg/worker/internal/state"
)

// Core is what a worker has before, during and after its run. Its methods may be called by
// any goroutine; what is exported of it is not changed once it runs.
type Core struct {
	log      *slog.Logger
	env      environment
	info     Info
	Traffic  *serve.Traffic
	Sender   *migrate.Sender // gives connections to other workers
	Store    state.Store     // of the program's state
	client   *state.Client   // the Store of a worker with a master; else nil
	Stderr   io.Writer       // of stack dumps
	phase    atomic.Value    // one of ipc's states; written by the lifecycle's loop alone
	stopping atomic.Bool     // the service is about to stop
}

// Program is what a worker is to run.
type Program struct {
	Listeners     []*serve.Config
	Kinds         map[string]*migrate.Kind // of connections that it takes from other workers
	BeforeReady   []func(context.Context) error
	OnActive      []func(context.Context)
	OnLeaving     []func()
	DrainTimeout  time.Duration // of a drain that no master asked for; negative: no bound
	Announce      time.Duration // of a leave that no master asked for; zero: it is not announced
	IgnoreSignals bool
	MaxInFlight   int              // requests at one time that it is made for; zero: it has not said
	Measures      *measure.Program // of its own
}

// New reads what the environment says of the worker, with lookup, and removes it, with
// unset. With an error the Core can be asked, and must not be run.
func New(log *slog.Logger, lookup func(string) (string, bool), unset func(string) error) (*Core, error) {
	env, err := readEnvironment(lookup, unset, os.Getpid())
	c := &Core{log: log, env: env, info: env.info(), Traffic: serve.NewTraffic(), Stderr: os.Stderr}
	c.Sender = migrate.NewSender(c.Traffic.Conns, c.Traffic.Leaving.IsSet, log)
	c.phase.Store(ipc.StateNew)
	if c.info.Managed {
		c.client = state.NewClient()
		c.Store = c.client
	} else {
		c.Store = state.NewLocal()
	}
	return c, err
}

// Run serves until the worker has drained, and returns when what it started has ended, but
// for functions of the program's that do not return. It can be called once.
func (c *Core) Run(ctx context.Context, p Program) error { return newLifecycle(c, p).run(ctx) }

// Discard gives up the sockets that systemd has passed, for a worker that is not to run.
func (c *Core) Discard() { c.env.closeSockets() }

// Info is what the worker knows of itself.
func (c *Core) Info() Info { return c.info }

// Stats are the worker's numbers of this moment.
func (c *Core) Stats() ipc.Stats {
	s := c.Traffic.Stats()
	s.Moved = c.Sender.Migrated()
	return s
}

// State is where the worker is in its life: one of ipc's states.
func (c *Core) State() string { return c.phase.Load().(string) }

func (c *Core) setState(state string) { c.phase.Store(state) }

// Unready is why no traffic is wanted; empty: it is.
func (c *Core) Unready() string {
	switch s := c.State(); {
	case s == ipc.StateNew:
		return "starting"
	case c.stopping.Load():
		return "stopping"
	case s == ipc.StateDraining && !c.info.Managed:
		return "draining"
	}
	return ""
}
