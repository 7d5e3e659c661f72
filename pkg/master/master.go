// Package master is the daemon: it keeps a service's listening sockets for
// life and runs the service's workers, one version beside the next.
//
// [Master] is a loop around [rollout.Machine]. The rooms beside it report what
// happened, the machine decides, and the loop carries out what was decided:
//
//	rooms ──facts──▶ loop ──Step──▶ machine ──commands──▶ loop ──▶ rooms
//
// One goroutine, the one in [Master.Run], owns the machine and every table of
// the master. Whatever may take time runs beside it and posts what came of it
// into the inbox. Nothing is global, so several masters can live in one process.
package master

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/pkg/ipc"
	"github.com/masterd/masterd/pkg/master/admin"
	"github.com/masterd/masterd/pkg/master/answer"
	"github.com/masterd/masterd/pkg/master/atomicfile"
	"github.com/masterd/masterd/pkg/master/blob"
	"github.com/masterd/masterd/pkg/master/config"
	"github.com/masterd/masterd/pkg/master/contain"
	"github.com/masterd/masterd/pkg/master/history"
	"github.com/masterd/masterd/pkg/master/journal"
	"github.com/masterd/masterd/pkg/master/listen"
	"github.com/masterd/masterd/pkg/master/logs"
	"github.com/masterd/masterd/pkg/master/notify"
	"github.com/masterd/masterd/pkg/master/rollout"
	"github.com/masterd/masterd/pkg/master/session"
	"github.com/masterd/masterd/pkg/master/state"
	"github.com/masterd/masterd/pkg/master/version"
	"github.com/masterd/masterd/pkg/master/watch"
)

// Names of what lies in the runtime and state directories.
const (
	AdminSocket   = "admin.sock"
	ControlSocket = "control.sock"
	keeperSocket  = "keeper.sock"
	outputDir     = "out"
	versionsDir   = "versions"
)

const (
	// inboxLength is how many facts and questions may wait for the loop; who
	// posts more waits.
	inboxLength = 1024
	// minSlots is the pool of slots of a listener: enough for the active, the
	// parked, a candidate and several draining generations.
	minSlots = 16
	// closeTimeout bounds how long the end of a master waits for open admin
	// requests to be answered.
	closeTimeout = 2 * time.Second
	// tasksTimeout bounds its wait for what runs beside the loop: a write to a
	// disk that hangs cannot be ended.
	tasksTimeout = 10 * time.Second
	// holdTime is how long a client is kept waiting by "unavailable.answer: hold".
	holdTime = 30 * time.Second
	// retryAfter is what a client is told to wait after a 503 of the master's.
	retryAfter = time.Second
)

// Options are what a master is made of. Environment, signals and flags are the
// caller's: nothing here reads them.
type Options struct {
	Config    *config.Config                            // what is run
	Reread    func() (*config.Config, error)            // reads the configuration anew, for a reload
	Parse     func(text []byte) (*config.Config, error) // reads a kept one, as if it lay where the file is
	Journal   *journal.Journal                          // the master's own log
	Notify    func(state string)                        // tells the service manager; nil: nobody
	Watchdog  time.Duration                             // the service manager's; zero: none
	Version   string                                    // of masterd, for people
	Shim      []string                                  // how the exec shim is started; nil: this program
	Degraded  string                                    // non-empty: why Config is not what the file says
	Index     string                                    // the directory whose index the service is entered in; empty: none
	Remember  func(*config.Config) error                // keeps a configuration that was taken into force; nil: nobody does
	Self      Self                                      // how this process was started; without a program there are no upgrades
	Restored  string                                    // the masterd that was to take this one's place and died; empty: none
	Report    *os.File                                  // who supervises masterd beside the service manager, see keeper.Reporter; nil: nobody
	Given     []listen.Given                            // listening sockets of the service manager's
	Effect    func(command string)                      // told before each command of the machine is carried out; for tests, nil: nobody
	HookEnv   []string                                  // what hooks are given besides the facts: PATH and the like
	WorkerEnv map[string]string                         // what workers are given of the master's environment: where credentials are
}

// Master is one service's master.
type Master struct {
	opt     Options
	log     *zap.Logger
	journal *journal.Journal
	started time.Time

	// Rooms. Each is safe for use from outside the loop.
	lock     *state.Lock
	store    versions
	history  *history.Log
	output   outputs
	sockets  sockets
	sessions sessions
	answers  map[string]*answer.Answerer // by mode: a reload may change it
	admin    *admin.Server
	watch    *watch.Watcher
	system   system
	keeper   keeping
	notices  notices
	stored   stored
	menders  []part // what of them is in the runtime directory
	contain  containment

	inbox  *queue         // what the loop is to do; the loop owns it
	done   chan struct{}  // closed when the loop has ended, after the last of the inbox
	tasks  sync.WaitGroup // everything that runs beside the loop
	ending sync.Mutex     // guards ended
	ended  bool           // tasks are waited for
	life   context.Context
	end    context.CancelFunc
	disk   *queue // what is written, one after the other; the disk goroutine makes the calls

	// Owned by the loop.
	machine     *rollout.Machine
	pending     []rollout.Event // what the machine has yet to be told
	stepping    bool            // it is being told
	cfg         *config.Config  // in force
	degraded    string          // why cfg is not what the file says
	refused     error           // why cfg would not be taken anew
	looking     bool            // whether it still is not
	saved       rollout.State   // by the last master
	workers     map[rollout.Worker]*worker
	finishing   map[rollout.Worker]chan struct{} // gone, but their output is still being read
	generations map[rollout.Generation]*generation
	plans       map[rollout.Rollout]*plan
	asked       map[string]*plan // by token, until the machine says Prepare
	callers     map[rollout.Request]*caller
	lastRequest rollout.Request
	lastRollout rollout.Rollout
	traces      map[rollout.Rollout]string
	shares      []rollout.Share // the steering in force
	active      deployment
	inForce     rollout.Generation // whose configuration cfg is
	blobs       *blob.Room         // what workers have us keep
	closing     struct {           // of the pulse before: see lookAtClosing
		now  int
		told bool
	}
	unreachable time.Time // when it turned out that no slot is reached over loopback
	orphans     []orphan
	placing     bool // some of them are tried again in a moment
	nobody      bool // the machine has said that nobody is alive
	notified    notified
	exit        *rollout.Code
	slots       int                // of each listener
	boot        string             // the host's
	inherits    bool               // the last master has left something
	before      *state.Live        // what it has left; nil: nothing, or forgotten
	deserted    bool               // none of its workers lives, known or not
	found       *rollout.Found     // who of its workers lives; nil: nobody
	unknown     []unknown          // who lives and is not known
	firstWorker rollout.Worker     // numbers up to this one are theirs
	uses        uses               // has a lock of its own
	kept        []byte             // live.json as it was last written
	keptConfigs map[string]bool    // by digest: those that lie beside it
	keptStale   bool               // others may lie there, too
	ousted      atomic.Bool        // the runtime directory is another master's by now
	reopens     atomic.Int32       // how often ReopenLogs was asked since it last did it
	liveKept    atomic.Int32       // how many configurations lie beside live.json; -1: it is not kept
	liveRefused time.Time          // when a line was last written about its not being written
	leave       *leave             // another masterd takes this one's place
	upgrade     *state.LiveUpgrade // that, or the one that this masterd has come by until it has proved itself
}

// deployment remembers who brought the active generation.
type deployment struct {
	generation rollout.Generation
	since      time.Time
	by, why    string
}

// New opens everything a master needs and disturbs nothing if any of it is not
// to be had: a port that is taken, an address that is not there, a second
// master of the same service. The error says what and, where that can be
// known, who is in the way.
func New(o Options) (*Master, error) {
	m := newMaster(o)
	if err := m.open(); err != nil {
		m.inbox.close() // nobody will take what the rooms report
		m.inbox.refuse()
		close(m.done)
		m.close()
		m.blobs.Close()
		if m.servesOn(err) {
			err = &ServesOnError{err}
		}
		return nil, err
	}
	return m, nil
}

// ServesOnError is why a master could not take over what another one has left.
// That serves on, and may be taken over by somebody else, or at another time.
type ServesOnError struct{ Err error }

func (e *ServesOnError) Error() string {
	return "what the last master has left cannot be taken over, and serves on: " + e.Err.Error()
}

// Unwrap gives the cause.
func (e *ServesOnError) Unwrap() error { return e.Err }

// servesOn: workers of another master's live, who is gone, also where opening came to its
// end before anybody looked for them.
func (m *Master) servesOn(err error) bool {
	if _, held := errors.AsType[*state.HeldError](err); held {
		return false
	}
	if m.boot == "" {
		return len(m.processesOfService()) > 0
	}
	return m.inherits && !m.deserted
}

// newMaster makes a master without its rooms.
func newMaster(o Options) *Master {
	m := &Master{
		opt: o, cfg: o.Config, journal: o.Journal, log: o.Journal.Logger(), started: time.Now(), degraded: o.Degraded,
		inbox: newQueue(inboxLength), done: make(chan struct{}), disk: newQueue(diskQueue),
		workers: map[rollout.Worker]*worker{}, finishing: map[rollout.Worker]chan struct{}{}, generations: map[rollout.Generation]*generation{},
		plans: map[rollout.Rollout]*plan{}, asked: map[string]*plan{}, callers: map[rollout.Request]*caller{},
		traces: map[rollout.Rollout]string{}, answers: map[string]*answer.Answerer{},
	}
	m.blobs = blob.New(m.started)
	m.liveKept.Store(-1)
	m.keeper, m.notices, m.stored, m.slots, m.contain = noKeeper{}, noNotices{}, noStore{}, slots(o.Config), noContain{}
	m.life, m.end = context.WithCancel(context.Background())
	return m
}

// open opens the rooms, the service's lock first: with it nobody else is here,
// and what a dead master left behind may be removed.
func (m *Master) open() (err error) {
	cfg := m.cfg
	m.system = host()
	if err := state.Dirs(cfg.RuntimeDir, cfg.StateDir); err != nil {
		return err
	}
	if m.lock, err = state.Acquire(cfg.RuntimeDir, cfg.Service); err != nil {
		return err
	}
	if m.history, err = history.Open(filepath.Join(cfg.StateDir, HistoryFile), m.historyEnds); err != nil {
		m.log.Error("the history is not whole; the service is not kept from starting", zap.Error(err))
	}
	store, err := version.Open(filepath.Join(cfg.StateDir, versionsDir), version.Options{})
	if err != nil {
		return err
	}
	m.store = store
	if err := CheckStore(cfg); err != nil {
		return err
	}
	for _, p := range store.Problems() {
		m.log.Warn("the version store", zap.String("problem", p))
	}
	if err := m.load(); err != nil {
		return err
	}
	left, held, err := m.openKeeper()
	if err != nil {
		return err
	}
	var before []string
	if left != nil {
		before = left.AllCgroups()
	}
	m.contain = contain.Open(contain.Options{RuntimeDir: m.opt.Config.RuntimeDir, Before: before, Marked: m.workerOf, Operators: operators})
	all := m.processesOfService()
	if left != nil {
		m.processesLeft(left, all)
	}
	m.unknownLeft(all)
	m.deserted = len(m.workers) == 0 && len(m.unknown) == 0
	for _, mode := range []string{answer.Mode503, answer.ModeReset, answer.ModeHold} {
		m.answers[mode] = answer.New(mode, holdTime, retryAfter)
	}
	set, err := listen.Open(listen.Options{
		Listeners: m.listenersNeeded(), Slots: m.slots, Log: m.log, Held: held.sockets, Holders: m.holdersLeft(), Shares: sharesLeft(left), Deserted: m.deserted, Given: m.opt.Given,
		Keep: m.holdSocket, Drop: m.drop,
		Orphan: m.takeOrphan,
		Quiet:  func(slot int) { m.tell(rollout.SlotQuiet{Slot: rollout.Slot(slot)}) },
		Own:    m.takeOwn,
	})
	if err != nil {
		return err
	}
	m.sockets, m.slots = set, set.Slots()
	output, err := logs.Open(logs.Options{
		Dir: filepath.Join(cfg.RuntimeDir, outputDir), PerWorker: cfg.Log.PerWorker, Line: cfg.Log.Line,
		Emit:  func(e logs.Entry, _ []byte) { m.journal.Line(e.LogLine, e.PID) },
		Unfit: func(worker uint64, why string) { m.at(func() { m.giveUp(rollout.Worker(worker), why) }) },
	})
	if err != nil {
		return err
	}
	m.output = logRoom{output}
	control, err := session.Listen(session.Options{Path: filepath.Join(cfg.RuntimeDir, ControlSocket), Log: m.log, Later: true})
	if err != nil {
		return err
	}
	m.sessions = hub{control}
	heard, err := notify.Open(notify.Options{
		Dir: filepath.Join(cfg.RuntimeDir, notify.Dir), Log: m.log, Keep: func(name string, fd int) { m.hold(name, nil, fd) }, Drop: m.drop,
	})
	if err != nil {
		return err
	}
	m.notices = heard
	if m.found != nil {
		m.takeOver(held)
		m.lookAtRefused()
	}
	control.Begin()
	if err := heard.Sweep(); err != nil {
		m.log.Warn("sockets for the sd_notify of workers that are gone cannot be removed", zap.Error(err))
	}
	if err := output.Sweep(); err != nil {
		m.log.Warn("output of workers that are gone cannot be removed", zap.Error(err))
	}
	if m.admin, err = admin.Listen(admin.Options{
		Path: filepath.Join(cfg.RuntimeDir, AdminSocket), Backend: backend{m}, Log: m.log,
		Service: cfg.Service, Environment: cfg.Environment,
		ReadersGroup: cfg.Admin.ReadersGroup, OperatorsGroup: cfg.Admin.OperatorsGroup, MasterUID: os.Getuid(),
	}); err != nil {
		return err
	}
	m.menders = []part{{m.lock, "the lock"}, {control, "the workers' control socket"}, {heard, "the sockets for sd_notify"}, {output, "the workers' output"}, {m.admin, "the admin socket"}}
	if err := m.enterIndex(); err != nil {
		m.log.Warn("the service cannot be entered in the index of services: verbs find it by its configuration alone", zap.String("index", m.opt.Index), zap.Error(err))
		m.opt.Index = ""
	}
	var seed [16]byte
	if _, err := rand.Read(seed[:]); err != nil {
		return fmt.Errorf("seeding: %w", err)
	}
	m.machine = rollout.New(rollout.Options{
		Slots: m.slots,
		Rand:  mathrand.New(mathrand.NewPCG(binary.NativeEndian.Uint64(seed[:8]), binary.NativeEndian.Uint64(seed[8:]))),
		Violated: func(what string) {
			m.log.DPanic("an invariant of the rollout machine does not hold; please report this", zap.String("invariant", what))
		},
	})
	return nil
}

// load reads what the last master saved. What an older masterd cannot
// understand it must not overwrite; what is damaged costs the memory of earlier
// versions, but not the service.
func (m *Master) load() error {
	if err := atomicfile.Sweep(m.cfg.StateDir); err != nil {
		m.log.Warn("removing what a killed master left half-written", zap.Error(err))
	}
	var err error
	m.saved, err = m.system.load(m.cfg.StateDir)
	var (
		newer     *state.NewerError
		recovered *state.RecoveredError
	)
	switch {
	case errors.As(err, &newer):
		return err
	case errors.As(err, &recovered):
		m.log.Error("the saved state is damaged; going on with the one before it", zap.Error(err))
	case err != nil:
		m.log.Error("the saved state cannot be read; going on without it", zap.Error(err))
	}
	return nil
}

// forgetLive: the service has stopped, nobody is to be taken over.
func (m *Master) forgetLive() error {
	if m.exit == nil || m.ousted.Load() {
		return nil // it never ran, or has lost its place: what is there is another master's
	}
	return state.DropLive(m.opt.Config.RuntimeDir)
}

// slots is the size of the pool that a configuration needs.
func slots(cfg *config.Config) int { return slotsFor(cfg, cfg.Worker.Processes) }

// slotsFor is that for another number of workers: what two generations need twice
// over, as draining ones keep theirs for a while.
func slotsFor(cfg *config.Config, processes int) int {
	n := minSlots
	if cfg.Worker.Kind != config.KindSDK {
		n = max(n, 4*processes)
	}
	return n
}

// grow makes the pool as large as is needed. It is called beside the loop.
func (m *Master) grow(slots int) error {
	if err := m.sockets.Grow(slots); err != nil {
		return fmt.Errorf("making the pool of slots larger: %w", err)
	}
	m.at(func() {
		if now := m.sockets.Slots(); now > m.slots {
			m.log.Info("the pool of slots has grown", zap.Int("from", m.slots), zap.Int("to", now))
			m.slots = now
			m.step(rollout.Grown{Slots: now})
		}
	})
	return nil
}

// Run runs the service until it has stopped, and returns how that went as an
// exit code. ctx's end stops the service as a TERM does.
func (m *Master) Run(ctx context.Context) int {
	m.beside(m.writeDisk)
	m.beside(m.lookAtMemory)
	m.beside(m.keepRuntimeDir)
	m.beside(m.reapOrphans)
	m.openWatch()
	if m.opt.Self.Program != "" {
		time.AfterFunc(provenAfter, func() { m.at(m.proven) })
	}
	m.log.Info("masterd starts", zap.String("masterd", m.opt.Version), zap.String("config", m.cfg.File), zap.Int("pid", os.Getpid()))
	m.recordTakeover()
	m.followAdopted()
	m.step(rollout.Booted{Settings: settings(m.cfg), State: m.saved, Found: m.found, Workers: m.firstWorker})
	m.loop(ctx)
	m.endInbox()
	if m.exit == nil {
		return m.goAway()
	}
	m.leave = nil // a stop that came at the last moment: nobody takes over what has ended
	m.endWorkers()
	m.storeBlobs()
	m.endLoop()
	for _, o := range m.orphans {
		ipc.DiscardConn(o.fd)
	}
	m.close()
	m.log.Info("masterd ends")
	if *m.exit == rollout.Done {
		return 0
	}
	return 1
}

// Status is what an operator asks for first. It may be called at any time, by
// anybody.
func (m *Master) Status() api.Status { return backend{m}.Status() }
