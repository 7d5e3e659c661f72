// Package master is the daemon: it keeps a service's listening sockets for
// life and runs the service's workers, one version beside the next.
//
// [Master] is a loop around [rollout.Machine]. The rooms beside it report what
// happened, the machine decides, and the loop carries out what was decided:
//
//	rooms ──facts──▶ loop ──Step──▶ machine ──commands──▶ loop ──▶ rooms
//
// One goroutine, the one in [Master.Run], owns the machine and calls the rooms that own
// the master's tables: generations, workers, traffic, takeover, operator. Whatever may take
// time runs beside it and posts its result into the inbox (package loop). Nothing is global,
// so several masters can live in one process.
package master

import (
	"context"
	"os"
	"time"

	"go.uber.org/zap"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/pkg/master/admin"
	"github.com/masterd/masterd/pkg/master/blob"
	"github.com/masterd/masterd/pkg/master/config"
	"github.com/masterd/masterd/pkg/master/disk"
	"github.com/masterd/masterd/pkg/master/generations"
	"github.com/masterd/masterd/pkg/master/history"
	"github.com/masterd/masterd/pkg/master/journal"
	"github.com/masterd/masterd/pkg/master/listen"
	"github.com/masterd/masterd/pkg/master/loop"
	"github.com/masterd/masterd/pkg/master/metrics"
	"github.com/masterd/masterd/pkg/master/operator"
	"github.com/masterd/masterd/pkg/master/page"
	"github.com/masterd/masterd/pkg/master/rollout"
	"github.com/masterd/masterd/pkg/master/rundir"
	"github.com/masterd/masterd/pkg/master/state"
	"github.com/masterd/masterd/pkg/master/takeover"
	"github.com/masterd/masterd/pkg/master/traffic"
	"github.com/masterd/masterd/pkg/master/workers"
)

// inboxLength is how many facts and questions may wait for the loop; who posts more waits.
const inboxLength = 1024

// Replaced is what [Master.Run] returns when another masterd is to take this
// one's place: the caller execs [Master.Successor].
const Replaced = -1

// Options are what a master is made of. Environment, signals and flags are the
// caller's: nothing here reads them.
type Options struct {
	Config   *config.Config                            // what is run
	Reread   func() (*config.Config, error)            // reads the configuration anew, for a reload
	Parse    func(text []byte) (*config.Config, error) // reads a kept one, as if it lay where the file is
	Journal  *journal.Journal                          // the master's own log
	Notify   func(state string)                        // tells the service manager; nil: nobody
	Watchdog time.Duration                             // the service manager's; zero: none
	Version  string                                    // of masterd, for people
	Shim     []string                                  // how the exec shim is started; nil: this program
	Degraded string                                    // non-empty: why Config is not what the file says
	// the directory whose index the service is entered in; empty: none
	Index     string
	Remember  func(*config.Config) error          // keeps one that was taken into force; nil: nobody does
	Self      takeover.Self                       // how this process was started; no program: no upgrades
	Restored  string                              // who was to take this one's place and died; empty: nobody
	Report    *os.File                            // who else supervises masterd, see keeper.Reporter; nil: nobody
	Given     []listen.Given                      // listening sockets of the service manager's
	Effect    func(command string)                // called before each command is carried out; for tests
	Turn      func(do func(), what func() string) // makes a turn of the loop, and may ask what it was; for tests
	HookEnv   []string                            // what hooks are given besides the facts: PATH and the like
	WorkerEnv map[string]string                   // of the master's environment: where credentials are
}

// Master is one service's master.
type Master struct {
	opt    Options
	log    *zap.Logger
	system system

	loop *loop.Loop
	disk *disk.Writer
	open rooms

	// Owned by the loop.
	machine     *rollout.Machine
	pending     []rollout.Event // what the machine has yet to be told
	stepping    bool            // it is being told
	turned      []string        // what this turn of the loop has done; nil: nobody asks
	exit        *rollout.Code   // the service has ended
	saved       rollout.State   // by the last master
	blobs       *blob.Set       // what workers have us keep
	workers     *workers.Set
	traffic     *traffic.Router
	generations *generations.Set
	takeover    *takeover.Takeover
	operator    *operator.Backend
	rundir      *rundir.Dir
}

// rooms are those that have something open. Each is safe for use from outside the loop.
type rooms struct {
	lock     *state.Lock
	store    versions
	history  *history.Log
	output   outputs
	sockets  sockets
	sessions sessions
	admin    *admin.Server
	metrics  *metrics.Server
	page     *page.Server // nil: in tests
	notices  notices
	stored   stored
	contain  containment
}

// New opens everything a master needs and disturbs nothing if any of it is not
// to be had: a port that is taken, an address that is not there, a second
// master of the same service. The error says what and, where that can be
// known, who is in the way.
func New(o Options) (*Master, error) {
	m := newMaster(o)
	if err := m.openRooms(); err != nil {
		m.loop.Close(false) // nobody will take what the rooms report
		m.takeover.Keeper.Settle()
		m.loop.Finish()
		m.close()
		m.blobs.Close()
		if m.takeover.ServesOn(err) {
			err = &takeover.ServesOnError{Err: err}
		}
		return nil, err
	}
	return m, nil
}

// newMaster makes a master that has nothing open.
func newMaster(o Options) *Master {
	m := &Master{opt: o, log: o.Journal.Logger(), loop: loop.New(inboxLength), blobs: blob.New(time.Now())}
	m.disk = disk.New(m.log)
	m.open = rooms{notices: noNotices{}, stored: noStore{}, contain: noContain{}}
	m.newRooms()
	return m
}

// Run runs the service until it has stopped, and returns how that went as an
// exit code. ctx's end stops the service as a TERM does.
func (m *Master) Run(ctx context.Context) int {
	m.loop.Go(m.disk.Run)
	m.loop.Go(m.lookAtMemory)
	m.loop.Go(func() { m.rundir.Keep(m.loop.Life()) })
	m.loop.Go(m.workers.ReapOrphans)
	m.loop.Go(m.workers.WatchClients)
	m.operator.OpenWatch()
	m.takeover.Begin()
	cfg := m.generations.InForce()
	m.log.Info("masterd starts", zap.String("masterd", m.opt.Version), zap.String("config", cfg.File))
	m.takeover.RecordTakeover()
	m.takeover.Follow()
	m.step(rollout.Booted{Settings: generations.Settings(cfg), State: m.saved, Found: m.takeover.Found(),
		Workers: m.takeover.First()})
	m.serve(ctx)
	m.endInbox()
	if m.exit == nil {
		return m.goAway()
	}
	m.takeover.Stay() // a stop that came at the last moment: nobody takes over what has ended
	m.endWorkers()
	m.storeBlobs()
	m.endLoop()
	m.close()
	m.log.Info("masterd ends")
	if *m.exit == rollout.Done {
		return 0
	}
	return 1
}

// What follows may be called at any time, by anybody.

// Status is what an operator asks for first.
func (m *Master) Status() api.Status { return m.operator.Status() }

// Hup reloads the configuration and rolls over.
func (m *Master) Hup() { m.operator.Hup() }

// Usr2 rolls over with the configuration in force.
func (m *Master) Usr2() { m.operator.Usr2() }

// ReopenLogs opens the log file anew, after a rotation.
func (m *Master) ReopenLogs() { m.operator.ReopenLogs() }

// Quit drains and stops without a deadline of its own.
func (m *Master) Quit() { m.operator.Quit() }

// Terminate drains and stops within stop_timeout; a second one ends now. With
// stop_announce it is announced first, and a second one ends that.
func (m *Master) Terminate() { m.operator.Terminate() }

// Successor is the program to exec after Run has returned Replaced, and what to
// exec when that fails.
func (m *Master) Successor() (program string, self takeover.Self) {
	return m.takeover.Successor(), m.opt.Self
}
