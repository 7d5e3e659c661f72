package workers

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/pkg/master/config"
	"github.com/masterd/masterd/pkg/master/contain"
	"github.com/masterd/masterd/pkg/master/logs"
	"github.com/masterd/masterd/pkg/master/probe"
	"github.com/masterd/masterd/pkg/master/proc"
	"github.com/masterd/masterd/pkg/master/process"
	"github.com/masterd/masterd/pkg/master/rollout"
	"github.com/masterd/masterd/pkg/master/version"
)

// candidateScore is added to a worker's oom_score_adj while it is not active:
// when memory runs out, the kernel takes it before the one that serves.
const candidateScore = 200

// Worker is one process and what the master holds for it, whatever its kind. The loop
// owns it.
type Worker struct {
	ID         rollout.Worker
	Generation *Generation
	Slot       rollout.Slot
	Started    time.Time
	UID        int  // whom it runs as
	Reached    bool // a connection by its slot was answered, or could not be tried

	kind     kind
	process  Process // nil until it was started
	begun    string  // its process's start; with the PID it names it for ever
	output   Output
	finished chan struct{} // closed when its output was read to the end
	killed   bool          // a Kill came before the process did
	ended    bool          // its process is gone, and what it left is being ended
	asked    bool          // was sent a signal that has it end
	stopped  bool          // was sent its stop signal, or KILL, because it had to
	leaving  bool          // was told to drain, or to stop
	warned   map[string]merged
	score    atomic.Int32 // oom_score_adj that it is to have
	// checkTook is how long its last check was on its way, in nanoseconds; zero: there was none.
	checkTook atomic.Int64
	scoring   sync.Mutex // held while it is given that
}

// Start starts one process beside the loop and waits for it there.
func (set *Set) Start(c rollout.Start, g *Generation) {
	g.Slot, g.Last = c.Slot, c.Worker
	w := &Worker{ID: c.Worker, Generation: g, Slot: c.Slot, Started: time.Now(), finished: make(chan struct{})}
	w.kind = set.kindOf(w, g.Config.Worker.Kind == config.KindSDK)
	set.workers[c.Worker] = w
	if c.Replaces != 0 {
		set.Counters.Restarted()
	}
	set.Sockets.Name(int(c.Slot), g.Config.Listeners)
	var pid atomic.Int64
	set.Loop.Go(func() {
		as, err := set.prepare(w, &pid)
		set.Loop.PostOr(func() {
			if err != nil {
				set.startFailed(w, err)
				return
			}
			w.UID = as.UID
			w.kind.register()
			set.Loop.Go(func() { set.run(w, as, &pid) })
		}, func() {
			if err == nil {
				w.output.Finish()
			}
		})
	})
}

// prepare finds out whom a worker runs as, and opens a place for its output. It runs beside
// the loop: both may wait, for a directory service or for a disk.
func (set *Set) prepare(w *Worker, pid *atomic.Int64) (*version.User, error) {
	g := w.Generation
	uid, gid, groups, err := proc.Credentials(g.Config.Worker.User, g.Config.Worker.Group)
	if err != nil {
		return nil, err
	}
	output, err := set.Output.Add(logs.Ident{
		Worker: uint64(w.ID), Generation: uint64(g.ID), Version: g.Version.Label, UID: uid,
		PID:       func() int { return int(pid.Load()) },
		PerWorker: g.Config.Log.PerWorker, Line: g.Config.Log.Line,
	})
	if err != nil {
		return nil, fmt.Errorf("opening a place for its output: %w", err)
	}
	w.output = output
	return &version.User{Name: g.Config.Worker.User, UID: uid, GID: gid, Groups: groups}, nil
}

// run starts a worker's process and waits for its end, beside the loop.
func (set *Set) run(w *Worker, as *version.User, pid *atomic.Int64) {
	p, err := set.spawn(w, as)
	if err != nil || !p.Contained() {
		set.Contain.Remove(uint64(w.ID)) // it is not in there
	}
	if err != nil {
		w.output.Finish() // here, as it waits for whoever reads all output
		set.Loop.Post(func() { set.startFailed(w, err) })
		return
	}
	pid.Store(int64(p.PID()))
	w.output.Started()
	begun, _ := process.Begun(p.PID())
	set.Loop.PostOr(func() {
		w.process, w.begun = p, begun
		set.Log.Info("worker started", set.Fields(w)...)
		if w.killed {
			set.Signal(w.ID, true, "it was given up while it was being started")
		}
		set.Master.Step(rollout.Started{Worker: w.ID, PID: p.PID()})
		if set.workers[w.ID] == w {
			if err := w.kind.begin(); err != nil {
				set.Master.Step(rollout.Unfit{Worker: w.ID, Why: err.Error()})
			}
		}
	}, func() { // the master has ended meanwhile, and no other one would know of it
		_ = p.Signal(Signals["KILL"])
	})
	set.awaitEnd(w, p, nil)
}

// awaitEnd waits for the end of a worker's process, or until another process is the
// worker in its place.
func (set *Set) awaitEnd(w *Worker, p Process, replaced <-chan struct{}) {
	defer p.Close()
	select {
	case <-p.Done():
	case <-replaced:
		return
	case <-set.Loop.Done(): // it cannot be killed, or goes on under another master
		return
	}
	// Its last words may still be on their way. Then the fact, for the sake of
	// those who wait for an answer now, and then the last lines.
	w.kind.awaitMessages(lastMessages)
	var rest contain.Worker
	is := false // this process is the worker, and no other has taken its place
	set.Loop.Call(func() {
		is = w.process == p
		w.ended = is
		rest = w.kind.contained()
	})
	if !is {
		return
	}
	left := set.endLeftoverInTime(rest)
	if !set.Loop.Call(func() { set.exited(w, p.Exit(), left) }) {
		return
	}
	w.output.Finish()
	close(w.finished)
	set.Loop.Post(func() { delete(set.finishing, w.ID) })
}

// startFailed forgets a worker whose process could not be started.
func (set *Set) startFailed(w *Worker, err error) {
	close(w.finished)
	delete(set.workers, w.ID)
	w.kind.forget()
	set.Master.Step(rollout.StartFailed{Worker: w.ID, Reason: err.Error()})
}

// exited forgets a worker whose process is gone, and tells the machine. left tells that others
// of its processes were still there.
func (set *Set) exited(w *Worker, exit proc.Exit, left bool) {
	delete(set.workers, w.ID)
	set.finishing[w.ID] = w.finished
	how := w.kind.exitText(exit) + w.outOfMemory(exit) + w.background(exit, left)
	set.Log.Info("worker exited", append(set.Fields(w), zap.String("how", how))...)
	w.kind.forget()
	set.Master.Ending(w)
	set.lookForLost(w)
	cut := w.kind.cut(exit)
	set.countGone(w, cut)
	set.Master.Step(rollout.Exited{Worker: w.ID, Detail: how, Cut: cut})
	set.BeginBackground()
	set.Master.Ended()
}

// Activate tells a worker that the traffic is about to be its own.
func (set *Set) Activate(c rollout.Activate) {
	if w := set.living(c.Worker, 0); w != nil {
		w.kind.activate(c)
		set.lookOnce(w)
	}
}

// Park tells a worker that it gets no new connections for now.
func (set *Set) Park(c rollout.Park) {
	if w := set.living(c.Worker, candidateScore); w != nil {
		w.kind.park(c)
	}
}

// living is a worker that has a process, which gets this OOM score; nil: there is none.
func (set *Set) living(id rollout.Worker, score int) *Worker {
	w := set.workers[id]
	if w == nil || w.process == nil {
		return nil
	}
	w.score.Store(int32(score))
	process, fields := w.process, set.Fields(w)
	set.Loop.Go(func() { // it looks at all processes there are
		w.scoring.Lock()
		defer w.scoring.Unlock()
		if err := process.SetOOMScoreAdj(int(w.score.Load())); err != nil {
			set.Log.Debug("oom_score_adj", append(fields, zap.Error(err))...)
		}
	})
	return w
}

// Drain asks a worker to finish and leave.
func (set *Set) Drain(c rollout.Drain) {
	if w := set.workers[c.Worker]; w != nil {
		w.leaving = true
		if a := set.ofActive(w); a != nil {
			set.lookAtClaims(a, 0) // what this one may take along
		}
		w.kind.drain(c)
	}
}

// Announce tells a worker that the service is about to stop.
func (set *Set) Announce(c rollout.Announce) {
	if w := set.workers[c.Worker]; w != nil {
		w.kind.announce()
	}
}

// Dump asks a silent worker for its stacks.
func (set *Set) Dump(c rollout.Dump) {
	w := set.workers[c.Worker]
	if w == nil || w.process == nil {
		return
	}
	if err := w.kind.dump(); err != nil {
		set.Log.Warn("a worker cannot be asked for its stacks", append(set.Fields(w), zap.Error(err))...)
	}
}

// Signal sends the stop signal, or KILL, to a worker's process group.
func (set *Set) Signal(id rollout.Worker, kill bool, why string) {
	w := set.workers[id]
	if w == nil {
		return
	}
	if w.process == nil {
		w.killed = true // there is no process yet: as soon as there is one
		return
	}
	w.leaving, w.asked = true, true
	w.kind.signalled()
	sig := Signals[w.Generation.Config.Worker.StopSignal]
	if kill {
		sig = Signals["KILL"]
	}
	set.Log.Info("signalling worker", append(set.Fields(w), zap.Stringer("signal", sig), zap.String("why", why))...)
	if err := w.process.Signal(sig); err != nil {
		set.Log.Warn("signalling worker", append(set.Fields(w), zap.Error(err))...)
	}
}

// GiveUp ends a worker for what it does to others. One that is leaving is not waited for.
func (set *Set) GiveUp(id rollout.Worker, why string) {
	w := set.workers[id]
	if w == nil {
		return
	}
	set.Log.Warn("a worker is given up", append(set.Fields(w), zap.String("why", why))...)
	if w.leaving {
		set.Signal(id, true, why)
		return
	}
	set.Master.Step(rollout.Unfit{Worker: id, Why: why})
}

// Fields name a worker in the log.
func (set *Set) Fields(w *Worker) []zap.Field {
	f := []zap.Field{
		zap.Uint64("worker", uint64(w.ID)), zap.Uint64("generation", uint64(w.Generation.ID)),
		zap.String("version", w.Generation.Version.Label),
	}
	if w.process != nil {
		f = append(f, zap.Int("worker_pid", w.process.PID()))
	}
	if t := set.Master.Trace(w.Generation.Rollout); t != "" {
		f = append(f, zap.String("trace_id", t), zap.Uint64("rollout_id", uint64(w.Generation.Rollout)))
	}
	return f
}

// PID is that of the process that is the worker; zero: there is none yet.
func (w *Worker) PID() int {
	if w.process == nil {
		return 0
	}
	return w.process.PID()
}

// Leads is the number of its process group; zero: it has no process yet.
func (w *Worker) Leads() int {
	if w.process == nil {
		return 0
	}
	return w.kind.leads()
}

// HasSlot reports whether the sockets of its slot are its own.
func (w *Worker) HasSlot() bool { return w.kind.hasSlots() }

// Describe fills in what the worker says of itself.
func (w *Worker) Describe(aw *api.Worker) {
	if w.process != nil {
		aw.PID = w.process.PID() // the one that it names as its main one
	}
	aw.Started = w.Started
	aw.ProbeMS = float64(w.checkTook.Load()/int64(time.Microsecond)) / 1000
	w.kind.describe(aw)
}

// Dial opens connections that reach exactly this worker, as one of its listeners, beside
// the loop.
func (w *Worker) Dial(listener string) probe.Dialer { return w.kind.dial(listener) }

// Kill sends KILL to all that are still there.
func (set *Set) Kill() {
	for _, w := range set.All() {
		if w.process != nil {
			_ = w.process.Signal(Signals["KILL"])
		}
	}
}
