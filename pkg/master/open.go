package master

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"os"
	"path/filepath"

	"go.uber.org/zap"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/pkg/master/admin"
	"github.com/masterd/masterd/pkg/master/atomicfile"
	"github.com/masterd/masterd/pkg/master/blob"
	"github.com/masterd/masterd/pkg/master/check"
	"github.com/masterd/masterd/pkg/master/contain"
	"github.com/masterd/masterd/pkg/master/fdstore"
	"github.com/masterd/masterd/pkg/master/history"
	"github.com/masterd/masterd/pkg/master/listen"
	"github.com/masterd/masterd/pkg/master/logs"
	"github.com/masterd/masterd/pkg/master/metrics"
	"github.com/masterd/masterd/pkg/master/notify"
	"github.com/masterd/masterd/pkg/master/page"
	"github.com/masterd/masterd/pkg/master/rollout"
	"github.com/masterd/masterd/pkg/master/rundir"
	"github.com/masterd/masterd/pkg/master/session"
	"github.com/masterd/masterd/pkg/master/state"
	"github.com/masterd/masterd/pkg/master/version"
	"github.com/masterd/masterd/pkg/master/workers"
)

// Names of what lies in the runtime and state directories.
const (
	AdminSocket   = "admin.sock"
	ControlSocket = workers.ControlSocket
	outputDir     = "out"
	blobsDir      = "blobs" // in the state directory
)

// Tend is for the keeper, while there is no master: the output of workers is
// bounded, whatever they write.
func Tend(runtimeDir string) { logs.Bound(filepath.Join(runtimeDir, outputDir)) }

// openRooms opens the rooms, the service's lock first: with it nobody else is here,
// and what a dead master left behind may be removed.
func (m *Master) openRooms() (err error) {
	cfg := m.opt.Config
	m.system = host()
	m.wire()
	if err := state.Dirs(cfg.RuntimeDir, cfg.StateDir); err != nil {
		return err
	}
	if m.open.lock, err = state.Acquire(cfg.RuntimeDir, cfg.Service); err != nil {
		return err
	}
	if m.open.history, err = history.Open(filepath.Join(cfg.StateDir, history.FileName),
		m.operator.HistoryEnds); err != nil {
		m.log.Error("the history is not whole; the service is not kept from starting", zap.Error(err))
	}
	store, err := version.Open(check.VersionsIn(cfg), version.Options{})
	if err != nil {
		return err
	}
	m.open.store = store
	if err := check.Store(cfg); err != nil {
		return err
	}
	for _, p := range store.Problems() {
		m.log.Warn("the version store", zap.String("problem", p))
	}
	if err := m.load(); err != nil {
		return err
	}
	left, err := m.takeover.Open()
	if err != nil {
		return err
	}
	var before []string
	if left != nil {
		before = left.AllCgroups()
		m.blobs.Above(left.Revision)
	}
	m.inheritBlobs()
	if err := m.inheritFiles(); err != nil {
		return err
	}
	m.open.contain = contain.Open(contain.Options{RuntimeDir: cfg.RuntimeDir, Before: before, Marked: m.workers.Of,
		Operators: workers.OfOperators})
	m.wire()
	m.takeover.Adopt()
	m.traffic.Open()
	set, err := listen.Open(listen.Options{
		Listeners: m.generations.Listeners(), Slots: m.generations.Slots(), Log: m.log,
		Held: m.takeover.Keeper.Take(listen.HeldPrefix), Holders: m.takeover.Holders(), Shares: m.takeover.Shares(),
		Sticky: m.takeover.Sticky(), Deserted: m.takeover.Deserted(), Given: m.opt.Given,
		Keeper: m.takeover.Keeper,
		Orphan: m.traffic.TakeUnaccepted,
		Quiet:  func(slot int) { m.postEvent(rollout.SlotQuiet{Slot: rollout.Slot(slot)}) },
		Own:    m.traffic.TakeOwn,
	})
	if err != nil {
		return err
	}
	m.open.sockets = set
	m.generations.SetSlots(set.Slots())
	output, err := logs.Open(logs.Options{
		Dir: filepath.Join(cfg.RuntimeDir, outputDir), PerWorker: cfg.Log.PerWorker, Line: cfg.Log.Line,
		Emit:  func(e logs.Entry, _ []byte) { m.opt.Journal.Line(e.LogLine, e.PID) },
		Unfit: func(worker uint64, why string) { m.loop.Post(func() { m.workers.GiveUp(rollout.Worker(worker), why) }) },
	})
	if err != nil {
		return err
	}
	m.open.output = logCollector{output}
	control, err := session.Listen(session.Options{Path: filepath.Join(cfg.RuntimeDir, ControlSocket), Log: m.log,
		Later: true})
	if err != nil {
		return err
	}
	m.open.sessions = hub{control}
	heard, err := notify.Open(notify.Options{
		Dir: filepath.Join(cfg.RuntimeDir, notify.Dir), Keeper: m.takeover.Keeper, Log: m.log,
	})
	if err != nil {
		return err
	}
	m.open.notices = heard
	m.wire()
	if m.takeover.Found() != nil {
		m.workers.Resume()
		m.generations.LookAtRefused()
	}
	m.takeover.Rest()
	control.Begin()
	if err := heard.Sweep(); err != nil {
		m.log.Warn("sockets for the sd_notify of workers that are gone cannot be removed", zap.Error(err))
	}
	if err := output.Sweep(); err != nil {
		m.log.Warn("output of workers that are gone cannot be removed", zap.Error(err))
	}
	scrapes := metrics.Handler(metrics.Source{
		Status: m.operator.Status, Counts: m.operator.Counts, Memory: m.system.available,
		Low: m.system.pressure, Version: m.opt.Version,
	})
	m.open.metrics = metrics.Serve(cfg.Admin.Metrics, scrapes, m.log)
	m.operator.Metrics = m.open.metrics
	m.open.page = page.New(page.Options{Address: cfg.Admin.Page, Version: m.opt.Version, Log: m.log, Source: page.Source{
		Status: m.operator.Status, Recent: m.operator.Recent, Lines: output.Lines,
		History: func(n int) page.Reader { return m.open.history.Newest(n) },
	}})
	if m.open.admin, err = admin.Listen(admin.Options{
		Path: filepath.Join(cfg.RuntimeDir, AdminSocket), Backend: m.operator, Log: m.log, Metrics: scrapes,
		Page:    func(p *admin.Person, act bool) (api.Page, error) { return m.open.page.Open(p, act) },
		Service: cfg.Service, Environment: cfg.Environment,
		ReadersGroup: cfg.Admin.ReadersGroup, OperatorsGroup: cfg.Admin.OperatorsGroup, MasterUID: os.Getuid(),
	}); err != nil {
		return err
	}
	m.open.page.Keep()
	m.rundir.Parts = []rundir.Part{
		{Mender: m.open.lock, What: "the lock"}, {Mender: control, What: "the workers' control socket"},
		{Mender: heard, What: "the sockets for sd_notify"},
		{Mender: output, What: "the workers' output"}, {Mender: m.open.admin, What: "the admin socket"},
	}
	if err := m.rundir.Enter(); err != nil {
		m.log.Warn("the service cannot be entered in the index of services: verbs find it by its configuration alone",
			zap.String("index", m.opt.Index), zap.Error(err))
		m.rundir.Index = ""
	}
	var seed [16]byte
	if _, err := rand.Read(seed[:]); err != nil {
		return fmt.Errorf("seeding: %w", err)
	}
	m.machine = rollout.New(rollout.Options{
		Slots: m.generations.Slots(),
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
	if err := atomicfile.Sweep(m.opt.Config.StateDir); err != nil {
		m.log.Warn("removing what a killed master left half-written", zap.Error(err))
	}
	var err error
	m.saved, err = m.system.load(m.opt.Config.StateDir)
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

// inheritBlobs takes over what the keeper holds, and has it hold what is kept from now on.
// Where it held nothing at all, what the last stop has written is read.
func (m *Master) inheritBlobs() {
	m.blobs.Inherit(m.takeover.Keeper.Take(blob.HeldPrefix), m.takeover.Keeper.Inherits(), blob.Disk{
		Dir:   m.blobsPath(),
		Later: func(write func() error) { m.disk.Later("kept state", write) },
	}, m.takeover.Keeper, blob.Limits(m.opt.Config.State), m.log)
}

func (m *Master) blobsPath() string { return filepath.Join(m.opt.Config.StateDir, blobsDir) }

// inheritFiles takes over what workers of an earlier master have had stored.
func (m *Master) inheritFiles() error {
	s, err := fdstore.New(fdstore.Options{Keeper: m.takeover.Keeper, Log: m.log})
	if err != nil {
		return err
	}
	s.Adopt(m.takeover.Keeper.Take(fdstore.HeldPrefix))
	m.open.stored = s
	return nil
}
