package master

import (
	"fmt"
	"sync/atomic"
	"syscall"
	"time"

	"go.uber.org/zap"

	"github.com/masterd/masterd/pkg/ipc"
	"github.com/masterd/masterd/pkg/master/config"
	"github.com/masterd/masterd/pkg/master/contain"
	"github.com/masterd/masterd/pkg/master/listen"
	"github.com/masterd/masterd/pkg/master/logs"
	"github.com/masterd/masterd/pkg/master/proc"
	"github.com/masterd/masterd/pkg/master/rollout"
	"github.com/masterd/masterd/pkg/master/session"
	"github.com/masterd/masterd/pkg/master/version"
)

// candidateScore is added to a worker's oom_score_adj while it is not active:
// when memory runs out, the kernel takes it before the one that serves.
const candidateScore = 200

// worker is one process and all that the master holds for it. The loop owns it.
type worker struct {
	id         rollout.Worker
	generation *generation
	slot       rollout.Slot
	started    time.Time
	process    process // nil until it was started
	session    control // nil for workers that do not speak the protocol
	output     output
	finished   chan struct{} // closed when its output was read to the end
	handed     bool          // it has its slots
	reached    bool          // a connection by its slot was answered, or could not be tried
	killed     bool          // a Kill came before the process did
	stats      ipc.Stats
	stopped    bool             // was sent its stop signal, or KILL, because it had to
	gives      []rollout.Worker // whom it was last told to give its connections to
	toldGive   bool             // it was told, since it was active
	announced  bool             // was told that the service is about to stop
	goodbye    bool             // stats are its last, said when it had drained
	paused     bool             // told not to accept (shared steering)
	leaving    bool             // was told to drain, or to stop
	background background
	secret     secret // what an SDK worker proves itself with
	protocol   int    // version that it speaks; zero: it was not welcomed yet, or speaks none
	warned     map[string]merged
	uid        int             // whom it runs as
	begun      string          // its process's start; with the PID it names it for ever
	away       bool            // an earlier master started it, and it has not come back to this one
	untold     rollout.Command // what it is to be told when it and those that it gives to are back; nil: nothing
	parkedAt   uint64          // revision of what was kept when it was told to park or leave; zero: it was not
	foreign                    // of kinds other than sdk
}

// startWorker starts one process beside the loop and waits for it there.
func (m *Master) startWorker(c rollout.Start) {
	g := m.generationOf(c.Generation)
	if g == nil {
		m.step(rollout.StartFailed{Worker: c.Worker, Reason: "nothing was prepared for this generation"})
		return
	}
	g.slot, g.last = c.Slot, c.Worker
	w := &worker{id: c.Worker, generation: g, slot: c.Slot, started: time.Now(), finished: make(chan struct{})}
	m.workers[c.Worker] = w
	m.sockets.Name(int(c.Slot), g.cfg.Listeners)
	uid, gid, groups, err := proc.Credentials(g.cfg.Worker.User, g.cfg.Worker.Group)
	if err != nil {
		m.startFailed(w, err)
		return
	}
	var pid atomic.Int64
	output, err := m.output.Add(logs.Ident{
		Worker: uint64(w.id), Generation: uint64(g.id), Version: g.version.Label, UID: uid, PID: func() int { return int(pid.Load()) },
		PerWorker: g.cfg.Log.PerWorker, Line: g.cfg.Log.Line,
	})
	if err != nil {
		m.startFailed(w, fmt.Errorf("opening a place for its output: %w", err))
		return
	}
	w.output = output
	fresh := ""
	w.uid = uid
	if g.cfg.Worker.Kind == config.KindSDK {
		if err := m.sessions.Own(uid, gid); err != nil {
			m.startFailed(w, err)
			return
		}
		fresh = session.NewSecret()
		w.secret.hash = session.HashSecret(fresh)
		m.expect(w, fresh)
	}
	m.beside(func() {
		p, err := m.spawn(w, fresh, &version.User{Name: g.cfg.Worker.User, UID: uid, GID: gid, Groups: groups})
		if err != nil || !p.Contained() {
			m.contain.Remove(uint64(w.id)) // it is not in there
		}
		if err != nil {
			m.at(func() { m.startFailed(w, err) })
			return
		}
		m.post(func() {
			w.process = p
			w.begun, _ = proc.Begun(p.PID())
			pid.Store(int64(p.PID()))
			if w.session != nil {
				w.session.SetPID(p.PID())
			}
			w.output.Started()
			m.log.Info("worker started", m.fields(w)...)
			if w.killed {
				m.signalWorker(w.id, true, "it was given up while it was being started")
			}
			m.step(rollout.Started{Worker: w.id, PID: p.PID()})
			if w.session == nil && m.workers[w.id] == w {
				if err := m.beginForeign(w); err != nil {
					m.step(rollout.Unfit{Worker: w.id, Why: err.Error()})
				}
			}
		}, func() { // the master has ended meanwhile, and no other one would know of it
			_ = p.Signal(signals["KILL"])
		})
		m.awaitEnd(w, p, nil)
	})
}

// awaitEnd waits for the end of a worker's process, or until another process is the
// worker in its place.
func (m *Master) awaitEnd(w *worker, p process, replaced <-chan struct{}) {
	defer p.Close()
	select {
	case <-p.Done():
	case <-replaced:
		return
	case <-m.done: // it cannot be killed, or goes on under another master
		return
	}
	// Its last words may still be on their way. Then the fact, for the sake of
	// those who wait for an answer now, and then the last lines.
	if w.session != nil {
		w.session.Heard(lastWords)
	} else {
		m.notices.Heard(uint64(w.id), lastWords)
	}
	var rest contain.Worker
	is := false // this process is the worker, and no other has taken its place
	m.ask(func() {
		is = w.process == p
		w.ended = is
		rest = w.contained()
	})
	if !is {
		return
	}
	m.endRestInTime(rest)
	if !m.ask(func() { m.exited(w, p.Exit()) }) {
		return
	}
	w.output.Finish()
	close(w.finished)
	m.at(func() { delete(m.finishing, w.id) })
}

// startFailed is told when there is no process.
func (m *Master) startFailed(w *worker, err error) {
	if w.output != nil {
		w.output.Finish()
	}
	close(w.finished)
	m.sessions.Forget(uint64(w.id))
	delete(m.workers, w.id)
	m.forgetForeign(w)
	m.step(rollout.StartFailed{Worker: w.id, Reason: err.Error()})
}

// said takes what a worker said over the control socket.
func (m *Master) said(w *worker, f session.Fact) {
	if f.Stats != nil {
		w.stats = *f.Stats
	}
	switch f.Kind {
	case session.Ready:
		m.step(rollout.Ready{Worker: w.id})
	case session.Accepting:
		m.accepts(w)
	case session.Beat:
		m.step(rollout.Beat{Worker: w.id})
	case session.Drained:
		w.goodbye = true
		m.backgroundEnded(w)
		m.step(rollout.Drained{Worker: w.id})
	case session.Refused:
		m.warn(w, "a worker refused what it was asked", zap.String("reason", f.Text))
	case session.Lost:
		if !w.leaving { // one that leaves closes it
			m.warn(w, "the control connection to a worker is lost; it may come back", zap.String("reason", f.Text))
		}
	case session.Renewed:
		m.secretRenewed(w)
	case session.Connected:
		m.log.Debug("worker connected", m.fields(w)...)
		m.renewSecret(w, f.Hello)
		if w.background.runs && w.background.toldEnd.IsZero() { // what told it so may have been lost
			w.background.waits = true
			m.beginBackground()
		}
		switch h := f.Hello; {
		case h == nil:
		case w.away:
			m.welcomeBack(w, h)
		case w.handed && (h.State == ipc.StateNew || h.State == ipc.StateReady):
			// It lost us before it had its slots: hand them over again.
			w.handed = false
			m.activate(rollout.Activate{Worker: w.id})
		}
		if w.announced {
			m.announce(rollout.Announce{Worker: w.id})
		}
		m.giveAgain(w)
		m.catchUp()
		m.placeOrphans() // they may have waited for this one
		if w.paused {    // what told it so may have been lost with the connection
			if err := w.session.Pause(); err != nil {
				m.warn(w, "a worker cannot be told to pause again", zap.Error(err))
			}
		}
	case session.Fetch:
		m.fetch(w, f)
	case session.Forget:
		m.forget(w, f)
	case session.Parked:
		m.backgroundEnded(w)
	case session.Paused:
		m.log.Debug("worker said", append(m.fields(w), zap.Stringer("what", f.Kind))...)
	}
}

// exited is told the moment the process is gone.
func (m *Master) exited(w *worker, exit proc.Exit) {
	m.sessions.Forget(uint64(w.id))
	delete(m.workers, w.id)
	m.finishing[w.id] = w.finished
	how := w.how(exit)
	m.log.Info("worker exited", append(m.fields(w), zap.String("how", how))...)
	m.forgetForeign(w)
	if len(m.shares) == 0 && w.generation.id == m.machine.Status().Active {
		m.abandon(w.slot) // before its replacement is started
	}
	m.step(rollout.Exited{Worker: w.id, Detail: how, Cut: w.took(exit)})
	m.beginBackground()
	m.tidy()
}

// activate gives a worker its slots the first time; later it says: go on.
func (m *Master) activate(c rollout.Activate) {
	w := m.workers[c.Worker]
	if w == nil || w.process == nil {
		return
	}
	w.gives, w.toldGive = nil, false // the message says so too
	if err := w.process.SetOOMScoreAdj(0); err != nil {
		m.log.Debug("oom_score_adj", append(m.fields(w), zap.Error(err))...)
	}
	m.toldActive(w)
	if w.session == nil { // it has had its slots from its start
		m.step(rollout.Accepting{Worker: w.id})
		return
	}
	if m.waits(w, c) {
		return
	}
	var files []listen.File
	if !w.handed {
		var err error
		if files, err = m.sockets.Man(int(w.slot), w.generation.names(), uint64(w.generation.id)); err != nil {
			m.log.Error("a worker cannot be given its slots", append(m.fields(w), zap.Error(err))...)
			return // the machine's deadline ends it
		}
		defer closeFiles(files)
		w.handed = true
	}
	names, fds := make([]string, len(files)), make([]int, len(files))
	for i, f := range files {
		names[i], fds[i] = f.Name, f.FD
	}
	if err := m.activateSession(w, names, fds); err != nil {
		m.log.Error("a worker cannot be told that it is active", append(m.fields(w), zap.Error(err))...)
	}
}

// park tells a worker that it gets no new connections for now.
func (m *Master) park(c rollout.Park) {
	w := m.workers[c.Worker]
	if w == nil || w.process == nil {
		return
	}
	if err := w.process.SetOOMScoreAdj(candidateScore); err != nil {
		m.log.Debug("oom_score_adj", append(m.fields(w), zap.Error(err))...)
	}
	if w.session == nil {
		return
	}
	if m.waits(w, c) {
		return
	}
	w.endBackground()
	m.toldToPark(w)
	if err := w.session.Park(); err != nil {
		m.log.Warn("a worker cannot be told that it is parked", append(m.fields(w), zap.Error(err))...)
	}
}

// drain asks a worker to finish and leave.
func (m *Master) drain(c rollout.Drain) {
	w := m.workers[c.Worker]
	if w == nil {
		return
	}
	if w.session == nil {
		m.seeOff(w, c.Deadline)
		return
	}
	w.leaving = true
	if m.waits(w, c) {
		return
	}
	works := w.background.runs
	w.endBackground()
	m.toldToPark(w)
	if w.session.Connected() {
		if works { // the answer tells when its background work has ended: long before it has drained, perhaps
			_ = w.session.Park() // the drain is what counts
		}
		var timeout time.Duration
		if !c.Deadline.IsZero() {
			timeout = max(time.Until(c.Deadline), time.Millisecond)
		}
		if err := w.session.Drain(timeout); err == nil {
			return
		}
	}
	m.signalWorker(c.Worker, false, "it is to drain")
}

// announce tells a worker that the service is about to stop. One that cannot be
// told serves on like the others.
func (m *Master) announce(c rollout.Announce) {
	if w := m.workers[c.Worker]; w != nil && w.session != nil {
		w.announced = true
		if w.away {
			return // told when it is back
		}
		if err := w.session.Announce(); err != nil {
			m.log.Warn("a worker cannot be told that the service is about to stop", append(m.fields(w), zap.Error(err))...)
		}
	}
}

// dump asks a silent worker for its stacks.
func (m *Master) dump(c rollout.Dump) {
	w := m.workers[c.Worker]
	if w == nil || w.process == nil {
		return
	}
	var err error
	if w.session != nil {
		err = w.session.Dump()
	} else { // as systemd does; its core, or what its handler says, tells where it hangs
		err = w.process.Signal(syscall.SIGABRT)
	}
	if err != nil {
		m.log.Warn("a worker cannot be asked for its stacks", append(m.fields(w), zap.Error(err))...)
	}
}

// signalWorker sends the stop signal, or KILL, to a worker's process group.
func (m *Master) signalWorker(id rollout.Worker, kill bool, why string) {
	w := m.workers[id]
	if w == nil {
		return
	}
	if w.process == nil {
		w.killed = true // there is no process yet: as soon as there is one
		return
	}
	w.leaving, w.asked = true, true
	if w.seenOff != nil {
		w.seenOff()
	}
	sig := signals[w.generation.cfg.Worker.StopSignal]
	if kill {
		sig = signals["KILL"]
	}
	m.log.Info("signalling worker", append(m.fields(w), zap.Stringer("signal", sig), zap.String("why", why))...)
	if err := w.process.Signal(sig); err != nil {
		m.log.Warn("signalling worker", append(m.fields(w), zap.Error(err))...)
	}
}

// giveUp ends a worker for what it does to others. One that is leaving is not waited for.
func (m *Master) giveUp(id rollout.Worker, why string) {
	w := m.workers[id]
	if w == nil {
		return
	}
	m.log.Warn("a worker is given up", append(m.fields(w), zap.String("why", why))...)
	if w.leaving {
		m.signalWorker(id, true, why)
		return
	}
	m.step(rollout.Unfit{Worker: id, Why: why})
}

// fields name a worker in the log.
func (m *Master) fields(w *worker) []zap.Field {
	f := []zap.Field{
		zap.Uint64("worker", uint64(w.id)), zap.Uint64("generation", uint64(w.generation.id)), zap.String("version", w.generation.version.Label),
	}
	if w.process != nil {
		f = append(f, zap.Int("pid", w.process.PID()))
	}
	if t, ok := m.traces[w.generation.rollout]; ok {
		f = append(f, zap.String("trace_id", t), zap.Uint64("rollout_id", uint64(w.generation.rollout)))
	}
	return f
}
