package workers

import (
	"path/filepath"
	"strconv"
	"time"

	"go.uber.org/zap"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/pkg/ipc"
	"github.com/masterd/masterd/pkg/master/contain"
	"github.com/masterd/masterd/pkg/master/listen"
	"github.com/masterd/masterd/pkg/master/probe"
	"github.com/masterd/masterd/pkg/master/proc"
	"github.com/masterd/masterd/pkg/master/rollout"
	"github.com/masterd/masterd/pkg/master/session"
	"github.com/masterd/masterd/pkg/master/state"
)

// sdk is a worker that is built on the worker package. It is told things over its
// control connection and says things there, and gets its sockets by an Activate.
type sdk struct {
	*Worker
	set         *Set
	session     Control
	fresh       string // its secret, until its process is started
	secret      secret // what it proves itself with
	protocol    int    // version that it speaks; zero: it was not welcomed yet
	stats       ipc.Stats
	saidDrained bool             // stats are its last, said when it had drained
	assigned    bool             // it has its slots
	paused      bool             // told not to accept (shared steering)
	announced   bool             // was told that the service is about to stop
	gives       []rollout.Worker // whom it was last told to give its connections to
	split       *rollout.Split   // the share of them; nil: all
	giveSent    bool             // it was told, since it was active
	refused     refusedSplit
	compares    compares
	background  background
	away        bool            // an earlier master started it, and it has not come back to this one
	pending     rollout.Command // what it is to be told when it and those that it gives to are back; nil: nothing
	parkedAt    uint64          // revision of what was kept when it was told to park or leave; zero: it was not
}

func (s *sdk) register() {
	s.fresh = session.NewSecret()
	s.secret.hash = session.HashSecret(s.fresh)
	s.expectSession(s.fresh)
}

// expectSession makes the worker known to the control socket before it exists, or before
// it comes back: then nobody but itself knows its secret.
func (s *sdk) expectSession(secret string) {
	g := s.Generation
	w := ipc.Welcome{Service: s.set.Master.InForce().Service, Label: g.Version.Label,
		BeatMS: int(s.set.Beat / time.Millisecond), Keeps: true}
	for _, l := range g.Config.Listeners {
		w.Listeners = append(w.Listeners, ipc.Listener{Name: l.Name, Address: l.Address})
	}
	s.session = s.set.Sessions.Expect(session.Expect{
		Worker: uint64(s.ID), Generation: uint64(g.ID), Secret: secret, SecretHash: s.secret.hash, NextHash: s.secret.next,
		UID: uint32(s.UID), Welcome: w,
		Fact: s.receive,
	})
}

func (s *sdk) equip(spec *proc.Spec, env map[string]string) (files []int, err error) {
	g := s.Generation
	env[ipc.EnvControl] = filepath.Join(s.set.RuntimeDir, ControlSocket)
	env[ipc.EnvSecret] = s.fresh
	env[ipc.EnvGeneration] = strconv.FormatUint(uint64(g.ID), 10)
	env[ipc.EnvService] = g.Config.Service
	env[ipc.EnvVersion] = g.Version.Label
	s.fresh = ""
	fd, err := s.inherit(spec, env)
	if err != nil {
		s.set.Log.Warn("a worker is started without its control connection, "+
			"and will look for the control socket by its path", append(s.set.Fields(s.Worker), zap.Error(err))...)
		return nil, nil
	}
	return []int{fd}, nil
}

func (s *sdk) begin() error {
	s.session.SetPID(s.process.PID())
	s.watchSilence()
	return nil
}

func (s *sdk) restore(l state.LiveWorker) {
	s.secret, s.protocol, s.away = secret{l.Secret, l.SecretNext, l.Renewed}, l.Protocol, true
	s.assigned, s.paused, s.announced, s.parkedAt = l.Handed, l.Paused, l.Announced, l.ParkedAt
	s.background = background{runs: l.Works, waits: l.WorkWaits, endSent: l.WorksUntil}
}

func (s *sdk) resume() {
	s.expectSession("")
	s.session.SetPID(s.process.PID())
	if s.protocol == 0 { // the master before has not heard of it either
		s.watchSilence()
	}
	if s.assigned {
		s.set.noteAssigned(s.Worker, s.Generation.Names())
	}
}

func (s *sdk) note(l *state.LiveWorker) {
	l.Secret, l.SecretNext, l.Renewed, l.Protocol = s.secret.hash, s.secret.next, s.secret.renewed, s.protocol
	l.Handed, l.Paused, l.Announced, l.ParkedAt = s.assigned, s.paused, s.announced, s.parkedAt
	l.Works, l.WorkWaits, l.WorksUntil = s.background.runs, s.background.waits, s.background.endSent.Round(0)
}

// activate gives the worker its slots the first time; later it says: go on.
func (s *sdk) activate(c rollout.Activate) {
	s.gives, s.split, s.giveSent = nil, nil, false // the message says so too
	s.Generation.Activated, s.parkedAt = true, 0
	if s.mustWait(c) {
		return
	}
	var files []listen.File
	if !s.assigned {
		var err error
		if files, err = s.set.Sockets.Man(int(s.Slot), s.Generation.Names(), uint64(s.Generation.ID)); err != nil {
			s.set.Log.Error("a worker cannot be given its slots", append(s.set.Fields(s.Worker), zap.Error(err))...)
			return // the machine's deadline ends it
		}
		defer closeFiles(files)
		s.assigned = true
	}
	names, fds := make([]string, len(files)), make([]int, len(files))
	for i, f := range files {
		names[i], fds[i] = f.Name, f.FD
	}
	if err := s.activateSession(names, fds); err != nil {
		s.set.Log.Error("a worker cannot be told that it is active", append(s.set.Fields(s.Worker), zap.Error(err))...)
	}
}

func (s *sdk) park(c rollout.Park) {
	if s.mustWait(c) {
		return
	}
	s.endBackground()
	s.noteParked()
	if err := s.session.Park(); err != nil {
		s.set.Log.Warn("a worker cannot be told that it is parked", append(s.set.Fields(s.Worker), zap.Error(err))...)
	}
}

func (s *sdk) drain(c rollout.Drain) {
	if s.mustWait(c) {
		return
	}
	works := s.background.runs
	s.endBackground()
	s.noteParked()
	if s.session.Connected() {
		if works { // the answer tells when its background work has ended: long before it has drained, perhaps
			_ = s.session.Park() // the drain is what counts
		}
		var timeout time.Duration
		if !c.Deadline.IsZero() {
			timeout = max(time.Until(c.Deadline), time.Millisecond)
		}
		if err := s.session.Drain(timeout); err == nil {
			return
		}
	}
	s.set.Signal(c.Worker, false, "it is to drain")
}

// noteParked notes that the worker was told to park or to leave.
func (s *sdk) noteParked() {
	if s.parkedAt == 0 {
		s.parkedAt = s.set.Blobs.Revision()
	}
}

// announce tells the worker that the service is about to stop. A worker that cannot be told
// serves on like the others.
func (s *sdk) announce() {
	s.announced = true
	if s.away {
		return // told when it is back
	}
	if err := s.session.Announce(); err != nil {
		s.set.Log.Warn("a worker cannot be told that the service is about to stop",
			append(s.set.Fields(s.Worker), zap.Error(err))...)
	}
}

func (s *sdk) dump() error { return s.session.Dump() }

func (s *sdk) signalled() {}

// dial passes one end of a connection over the control connection: the worker need not
// have its slots for that.
func (s *sdk) dial(listener string) probe.Dialer { return dialSession(s.session, listener) }

func (s *sdk) hasSlots() bool { return s.assigned }

// saidReady: else it is not checked.
func (s *sdk) saidReady() bool { return true }

func (s *sdk) contained() contain.Worker { return s.startedAs() }

func (s *sdk) leads() int { return s.process.PID() }

func (s *sdk) describe(aw *api.Worker) {
	aw.InFlight, aw.Open, aw.Requests, aw.Protocol = s.stats.InFlight, s.stats.Open, s.stats.Requests, s.protocol
	aw.LongestMS, aw.Cut = max(s.stats.LongestMS, 0), DescribeCut(s.cutSoFar())
}

func (s *sdk) awaitMessages(limit time.Duration) { s.session.Heard(limit) }

func (s *sdk) exitText(exit proc.Exit) string { return exit.String() }

func (s *sdk) forget() { s.set.Sessions.Forget(uint64(s.ID)) }

func (s *sdk) close() {}

// handle takes what the worker said over its control connection.
func (s *sdk) handle(f session.Fact) {
	set := s.set
	if f.Stats != nil {
		s.stats = *f.Stats
	}
	s.count(f)
	switch f.Kind {
	case session.Ready:
		set.Master.Step(rollout.Ready{Worker: s.ID})
	case session.Accepting:
		set.Master.Accepting(s.Worker)
	case session.Beat:
		set.Master.Step(rollout.Beat{Worker: s.ID})
	case session.Drained:
		s.saidDrained = true
		s.backgroundEnded()
		set.Master.Step(rollout.Drained{Worker: s.ID})
	case session.Refused:
		if s.splitRefused(f.Seq) {
			set.warn(s.Worker, "a worker moves no share of its connections: all of them stay until it is parked",
				zap.String("reason", f.Text))
			return
		}
		if s.compareRefused(f.Seq) {
			set.warn(s.Worker, "a worker does not count errors by connection, so this canary is not compared: "+
				"build it with a newer SDK", zap.String("reason", f.Text))
			return
		}
		set.warn(s.Worker, "a worker refused what it was asked", zap.String("reason", f.Text))
	case session.Lost:
		if !s.leaving { // one that leaves closes it
			set.warn(s.Worker, "the control connection to a worker is lost; it may come back", zap.String("reason", f.Text))
		}
	case session.Renewed:
		s.secretRenewed()
	case session.Connected:
		s.connected(f.Hello)
	case session.Fetch:
		s.fetch(f)
	case session.Forget:
		s.forgetBlob(f)
	case session.Parked:
		s.backgroundEnded()
	case session.Paused:
		set.Log.Debug("worker said", append(set.Fields(s.Worker), zap.Stringer("what", f.Kind))...)
	}
}

// connected handles a worker that has connected, or has come back, and sends again what may
// have been lost with its connection.
func (s *sdk) connected(h *ipc.Hello) {
	set := s.set
	set.Log.Debug("worker connected", set.Fields(s.Worker)...)
	s.renewSecret(h)
	if s.background.runs && s.background.endSent.IsZero() { // what told it so may have been lost
		s.background.waits = true
		set.BeginBackground()
	}
	switch {
	case h == nil:
	case s.away:
		s.reconnected(h)
	case s.assigned && (h.State == ipc.StateNew || h.State == ipc.StateReady):
		// It lost us before it had its slots: hand them over again.
		s.assigned = false
		set.Activate(rollout.Activate{Worker: s.ID})
	}
	if s.announced {
		s.announce()
	}
	set.repeatGive(s)
	set.repeatCompare(s)
	set.CatchUp()
	set.Master.Connected(s.Worker) // they may have waited for this one
	if s.paused {
		if err := s.session.Pause(); err != nil {
			set.warn(s.Worker, "a worker cannot be told to pause again", zap.Error(err))
		}
	}
}
