// Package operator is the master as its operators see it: what they ask for by the admin
// API, by signals and by changing files, and what they are told, by answers, status, history
// and the service manager.
//
// A [Backend] keeps who waits for an answer. The methods of the admin API and of signals may
// be called from any goroutine; all others belong to the master's loop, unless they say
// otherwise.
package operator

import (
	"context"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/pkg/master/blob"
	"github.com/masterd/masterd/pkg/master/config"
	"github.com/masterd/masterd/pkg/master/counters"
	"github.com/masterd/masterd/pkg/master/disk"
	"github.com/masterd/masterd/pkg/master/generations"
	"github.com/masterd/masterd/pkg/master/history"
	"github.com/masterd/masterd/pkg/master/journal"
	"github.com/masterd/masterd/pkg/master/loop"
	"github.com/masterd/masterd/pkg/master/manager"
	"github.com/masterd/masterd/pkg/master/memory"
	"github.com/masterd/masterd/pkg/master/recent"
	"github.com/masterd/masterd/pkg/master/rollout"
	"github.com/masterd/masterd/pkg/master/takeover"
	"github.com/masterd/masterd/pkg/master/version"
	"github.com/masterd/masterd/pkg/master/watch"
	"github.com/masterd/masterd/pkg/master/workers"
)

// Options are what a backend needs of its master. Those after Master may be set later,
// before they are needed.
type Options struct {
	Loop        *loop.Loop
	Journal     *journal.Journal
	Log         *zap.Logger
	Disk        *disk.Writer
	Config      *config.Config // that the master was started with
	Version     string         // of masterd, for people
	Workers     *workers.Set
	Generations *generations.Set
	Takeover    *takeover.Takeover
	Blobs       *blob.Set
	Counters    *counters.Set
	Manager     *manager.Manager
	Master      Master

	Audit   *history.Log
	Store   Versions
	Sockets Sockets
	Output  Output
	Contain Containment
	Metrics Metrics
	Usage   func(pid int) memory.Usage
}

// Master is the loop's owner, as far as operators matter to it.
type Master interface {
	Step(ev rollout.Event)   // tells the machine a fact
	Machine() rollout.Status // what the machine knows
}

// Versions is [version.Store].
type Versions interface {
	List() []version.Version
	Resolve(name string) (version.Version, error)
	FileDigest(ctx context.Context, path string) (string, error)
	Hold(id string, on bool) error
	Diff(a, b string) ([]version.Change, error)
}

// Sockets is [listen.Set].
type Sockets interface{ Status() []api.Listener }

// Output is [logs.Collector].
type Output interface {
	Lines(worker uint64, n int) []api.LogLine
	Follow(ctx context.Context, uid uint32, worker uint64, n int) (<-chan api.LogLine, error)
	Dropped(worker uint64) uint64
}

// Metrics is [metrics.Server].
type Metrics interface {
	Trouble() error // why nobody is answered; nil: they are
}

// Containment is [contain.Workers].
type Containment interface {
	Cgroup() string
	Why() string
}

// Backend is what the admin API talks to.
type Backend struct {
	Options
	started time.Time
	uses    uses         // has a lock of its own
	reopens atomic.Int32 // how often ReopenLogs was asked since it last did it

	// Owned by the loop.
	callers     map[rollout.Request]*caller
	lastRequest rollout.Request
	watch       *watch.Watcher
	closing     closing
	lately      lately
}

// New makes a backend for which nobody waits.
func New(o Options) *Backend {
	return &Backend{Options: o, started: time.Now(), callers: map[rollout.Request]*caller{},
		lately: lately{generations: map[uint64]*recent.Hour{}}}
}

// CloseWatch ends the watch of files. It is called when the loop has ended.
func (b *Backend) CloseWatch() {
	if b.watch != nil {
		b.watch.Close()
	}
}
