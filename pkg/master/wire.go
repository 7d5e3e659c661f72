package master

import (
	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/pkg/master/compare"
	"github.com/masterd/masterd/pkg/master/config"
	"github.com/masterd/masterd/pkg/master/counters"
	"github.com/masterd/masterd/pkg/master/generations"
	"github.com/masterd/masterd/pkg/master/manager"
	"github.com/masterd/masterd/pkg/master/operator"
	"github.com/masterd/masterd/pkg/master/rollout"
	"github.com/masterd/masterd/pkg/master/rundir"
	"github.com/masterd/masterd/pkg/master/takeover"
	"github.com/masterd/masterd/pkg/master/traffic"
	"github.com/masterd/masterd/pkg/master/workers"
)

// newRooms makes the rooms that the loop owns.
func (m *Master) newRooms() {
	o, all := m.opt, owner{m}
	counts := counters.New()
	m.workers = workers.New(workers.Options{
		Loop: m.loop, Log: m.log, RuntimeDir: o.Config.RuntimeDir, Shim: o.Shim, Env: o.WorkerEnv,
		Beat:   generations.BeatInterval,
		Master: all, Blobs: m.blobs, Counters: counts, Comparisons: compare.New(),
	})
	m.traffic = traffic.New(traffic.Options{Loop: m.loop, Log: m.log, Workers: m.workers, Master: all})
	m.rundir = &rundir.Dir{Log: m.log, Config: o.Config, Index: o.Index, Live: all}
	m.generations = generations.New(generations.Options{
		Loop: m.loop, Log: m.log, Disk: m.disk, Workers: m.workers, Blobs: m.blobs, Reread: o.Reread, Remember: o.Remember,
		NewTrace: o.Journal.Trace, HookEnv: o.HookEnv, Master: all, Mend: m.rundir.Mend, Counters: counts,
	}, o.Config, o.Degraded)
	m.takeover = takeover.New(takeover.Options{
		Loop: m.loop, Log: m.log, RuntimeDir: o.Config.RuntimeDir, Version: o.Version, Self: o.Self, Restored: o.Restored,
		Report: o.Report,
		Given:  o.Given, Parse: o.Parse, Workers: m.workers, Generations: m.generations, Blobs: m.blobs, Master: all,
		Counters: counts, Disk: m.disk,
	})
	m.operator = operator.New(operator.Options{
		Loop: m.loop, Journal: o.Journal, Log: m.log, Disk: m.disk, Config: o.Config, Version: o.Version, Workers: m.workers,
		Generations: m.generations, Takeover: m.takeover, Blobs: m.blobs, Manager: manager.New(o.Notify, o.Watchdog),
		Master: all, Counters: counts,
	})
}

// wire gives the rooms those that are open by now. It is called before the loop begins.
func (m *Master) wire() {
	r := &m.open
	w := &m.workers.Options
	w.Keeper, w.Versions, w.Sockets, w.Sessions = m.takeover.Keeper, r.store, r.sockets, r.sessions
	w.Notices, w.Stored, w.Contain, w.Output, w.System = r.notices, r.stored, r.contain, r.output, m.system.System
	m.traffic.Sockets = r.sockets
	g := &m.generations.Options
	g.Versions, g.Sockets, g.Memory = r.store, r.sockets, m.system.memory
	t := &m.takeover.Options
	t.Contain, t.Notices, t.System = r.contain, r.notices, m.system.takeover
	b := &m.operator.Options
	b.Audit, b.Store, b.Sockets = r.history, r.store, r.sockets
	b.Output, b.Contain, b.Usage = r.output, r.contain, m.system.usage
}

// owner is the master as its rooms see it. Its methods are called by the loop, unless the
// room says otherwise.
type owner struct{ m *Master }

var (
	_ workers.Master     = owner{}
	_ traffic.Master     = owner{}
	_ generations.Master = owner{}
	_ takeover.Master    = owner{}
	_ operator.Master    = owner{}
	_ rundir.Live        = owner{}
)

// All rooms.

func (o owner) Step(ev rollout.Event)   { o.m.step(ev) }
func (o owner) Machine() rollout.Status { return o.m.machine.Status() }
func (o owner) InForce() *config.Config { return o.m.generations.InForce() }
func (o owner) Effect(what any)         { o.m.effect(what) }

// The workers.

func (o owner) KeepLive() bool                  { return o.m.takeover.KeepLive() }
func (o owner) Trace(id rollout.Rollout) string { return o.m.generations.KnownTrace(id) }

func (o owner) LatencyRecord() compare.Record { return o.m.operator.LatencyRecord() }

func (o owner) Accepting(w *workers.Worker) { o.m.traffic.Accepting(w) }

// Connected passes the worker clients that may have waited for it.
func (o owner) Connected(*workers.Worker) { o.m.traffic.Place() }

// Ending answers what waits for the last worker before its replacement is started.
func (o owner) Ending(w *workers.Worker) {
	if o.m.traffic.Nobody() && w.Generation.ID == o.m.machine.Status().Active {
		o.m.traffic.Abandon(w.Slot)
	}
}

func (o owner) Ended() { o.m.generations.Tidy() }

// The generations.

// TrafficMoves ends the processes that no master knows: others serve now.
func (o owner) TrafficMoves() { o.m.takeover.EndUnknown() }

func (o owner) Configured(before *config.Config) {
	o.m.setEnvironment(before)
	o.m.operator.SetWatch()
}

func (o owner) FileMended() { o.m.operator.Tell() }

// setEnvironment tells the admin socket, which asks for a production service's
// name. It may look up groups: not in the loop.
func (m *Master) setEnvironment(before *config.Config) {
	environment := m.generations.InForce().Environment
	if m.open.admin == nil || environment == before.Environment {
		return
	}
	admin := before.Admin // needs a restart to change
	m.disk.Later("the environment", func() error {
		return m.open.admin.SetAccess(environment, admin.ReadersGroup, admin.OperatorsGroup)
	})
}

// The takeover.

func (o owner) Snapshot() rollout.Snapshot { return o.m.machine.Snapshot() }
func (o owner) Waiting() int               { return o.m.traffic.Waiting() }
func (o owner) Record(e api.Entry)         { o.m.operator.RecordMasterd(e) }
func (o owner) Ousted() bool               { return o.m.rundir.Ousted() }
func (o owner) Stopped() bool              { return o.m.exit != nil }

// The runtime directory.

func (o owner) LiveLost() bool { return o.m.takeover.LiveLost() }
func (o owner) WriteAgain()    { o.m.loop.Post(o.m.takeover.KeepLiveAgain) }
