package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"sync/atomic"
	"time"

	"github.com/masterd/masterd/pkg/ipc"
	"github.com/masterd/masterd/pkg/worker/internal/control"
	"github.com/masterd/masterd/pkg/worker/internal/migrate"
	"github.com/masterd/masterd/pkg/worker/internal/serve"
)

// DefaultDrainTimeout bounds a drain that no master asked for: after SIGTERM,
// SIGINT or the end of Run's context.
const DefaultDrainTimeout = 30 * time.Second

// Options are what a worker may be told beyond its listeners. The zero value
// is good.
type Options struct {
	// Log gets the few lines a worker has to say. Default: slog.Default().
	Log *slog.Logger
	// DrainTimeout bounds a drain that no master asked for. Default
	// DefaultDrainTimeout; negative: no bound. A master's drain brings its own.
	DrainTimeout time.Duration
	// Announce is for how long a leave that no master asked for is only announced:
	// everything goes on in full, but Readiness answers 503, so that load
	// balancers in front look away before the drain begins. A second signal skips
	// what is left of it. Default: none. A master announces by itself.
	Announce time.Duration
	// IgnoreSignals leaves SIGTERM and SIGINT to the program, which ends Run by
	// its context then. By default the first of them drains, and one that comes
	// while draining shortens what is left to a second.
	IgnoreSignals bool
	// MaxInFlight is how many requests at one time the program is made for: a size
	// of a pool, what a load test has found. The master is told, so that it can be
	// seen how near the worker is to that; nothing is refused because of it.
	// Default: it is not said.
	MaxInFlight int
}

// State is where a worker is in its life. See the package's documentation.
type State string

const (
	// StateNew: the BeforeReady functions run; ends when all have returned.
	StateNew State = "new"
	// StateReady: could serve, waits for the master's sockets; only a worker
	// with a master is ever seen in it.
	StateReady State = "ready"
	// StateActive: serves, and runs its background work; ends with park or drain.
	StateActive State = "active"
	// StateParked: warm, without new connections or background work; ends with
	// being active again or with a drain.
	StateParked State = "parked"
	// StateDraining: finishes what is open; ends with Run.
	StateDraining State = "draining"
)

// Stats are a worker's numbers, as it sends them to its master. Health checks
// that a master makes are not in them.
type Stats = ipc.Stats

// Info is what a worker knows of itself.
type Info struct {
	Managed    bool   // a master runs it
	Worker     uint64 // its id in that master; zero without one
	Generation uint64 // zero without a master
	Service    string // empty without a master
	Label      string // the version's, as the master calls it; empty without one
}

// Worker serves handlers on named listeners. Make one with New, tell it what
// to serve, then Run it, once.
type Worker struct {
	opts Options
	core *control.Core

	listeners []*serve.Config
	kinds     map[string]*migrate.Kind // of connections that the program takes from others
	before    []func(context.Context) error
	jobs      []func(context.Context)
	leaving   []func()
	mistakes  []error // of the program's author; Run returns them
	ran       atomic.Bool
}

// New makes a worker. It reads from the environment who runs it, and removes
// that from the environment, so that no child inherits a secret or takes a
// descriptor for its own.
func New(opts Options) *Worker {
	return newWorker(opts, os.LookupEnv, os.Unsetenv)
}

func newWorker(opts Options, lookup func(string) (string, bool), unset func(string) error) *Worker {
	if opts.Log == nil {
		opts.Log = slog.Default()
	}
	if opts.DrainTimeout == 0 {
		opts.DrainTimeout = DefaultDrainTimeout
	}
	c, err := control.New(opts.Log, lookup, unset)
	w := &Worker{opts: opts, core: c, kinds: make(map[string]*migrate.Kind)}
	if err != nil {
		w.mistakes = append(w.mistakes, err)
	}
	return w
}

// Handle serves h on the listener with this name: the name in masterd's
// configuration, or of a systemd socket (FileDescriptorName=). Each listener
// that the master may hand over needs a handler; one that it does not have is
// not served there.
func (w *Worker) Handle(name string, h http.Handler, opts ...ListenerOption) {
	l := &serve.Config{Name: name, Handler: h}
	for _, opt := range opts {
		opt(l)
	}
	switch {
	case name == "":
		w.mistake("Handle needs the listener's name")
	case h == nil:
		w.mistake("Handle(%q) needs a handler, it was given nil", name)
	case w.listener(name) != nil:
		w.mistake("Handle(%q) was called twice", name)
	default:
		w.listeners = append(w.listeners, l)
	}
}

// BeforeReady adds a function that must return before the worker says that it
// can serve: connect, warm a cache, look at a schema. They run one after the
// other in the order they were added. An error ends Run with that error, which
// refuses the version that brought it. The context ends when the worker is told
// to leave meanwhile.
func (w *Worker) BeforeReady(fn func(context.Context) error) {
	if fn == nil {
		w.mistake("BeforeReady needs a function, it was given nil")
		return
	}
	w.before = append(w.before, fn)
}

// OnActive adds background work: cron, consumers, whatever must not run twice.
// It runs in a goroutine of its own each time the worker becomes active, and
// its context ends when the worker is parked or drained. It never runs twice at
// one time: a worker that is active again waits for the last run's end first,
// and under a master a version waits for that of the version before (15 s at
// most for one that does not return when its context ends).
// One that returns by itself is not started again before that.
func (w *Worker) OnActive(fn func(context.Context)) {
	if fn == nil {
		w.mistake("OnActive needs a function, it was given nil")
		return
	}
	w.jobs = append(w.jobs, fn)
}

// OnLeaving adds a function that says goodbye: it runs in a goroutine of its own
// each time the worker parks, or drains without having been parked. What it does is
// the program's: tell the clients of a hub that they should come back, close what
// nobody else would. It never runs twice at one time, and a drain waits for its
// return, no longer than for everything else. A worker that leaves before it was
// ready does not call it. See [AfterLeaving] for what belongs to one connection.
func (w *Worker) OnLeaving(fn func()) {
	if fn == nil {
		w.mistake("OnLeaving needs a function, it was given nil")
		return
	}
	w.leaving = append(w.leaving, fn)
}

// Info tells who the worker is.
func (w *Worker) Info() Info { return Info(w.core.Info()) }

// State tells where the worker is in its life.
func (w *Worker) State() State { return State(w.core.State()) }

// Stats are the worker's numbers at this moment.
func (w *Worker) Stats() Stats { return w.core.Stats() }

// Run serves until the worker has drained: because its master said so, by
// SIGTERM or SIGINT, or because ctx ended. That is no error. An error means
// that it could not start to serve, with what to do about it; then nothing was
// lost, since nothing was served. Run returns when every goroutine of it has
// ended, but for those of the program's functions that ignore their end: they are
// waited for until the drain's time is up and some seconds more. It can be called once.
func (w *Worker) Run(ctx context.Context) error {
	if w.ran.Swap(true) {
		return errors.New("worker: Run was called twice; make a new Worker for that")
	}
	if len(w.listeners) == 0 && len(w.jobs) == 0 {
		w.mistake("nothing to do: call Handle, Serve or OnActive before Run")
	}
	if err := errors.Join(w.mistakes...); err != nil {
		w.core.Discard()
		return fmt.Errorf("worker: %w", err)
	}
	err := w.core.Run(ctx, control.Program{
		Listeners:     w.listeners,
		Kinds:         w.kinds,
		BeforeReady:   w.before,
		OnActive:      w.jobs,
		OnLeaving:     w.leaving,
		DrainTimeout:  w.opts.DrainTimeout,
		Announce:      w.opts.Announce,
		IgnoreSignals: w.opts.IgnoreSignals,
		MaxInFlight:   max(0, w.opts.MaxInFlight),
		Measures:      measures,
	})
	if err != nil {
		return fmt.Errorf("worker: %w", err)
	}
	return nil
}

func (w *Worker) listener(name string) *serve.Config {
	for _, l := range w.listeners {
		if l.Name == name {
			return l
		}
	}
	return nil
}

func (w *Worker) mistake(format string, args ...any) {
	w.mistakes = append(w.mistakes, fmt.Errorf(format, args...))
}
