package rollout

import (
	"fmt"
	"time"
)

// attempt is one rollout, from the request to the end of its bake. While it is
// on its way to the traffic it is the machine's try; then the bake carries it.
//
//	prepare → save → start → check → warm-up → save → activate → steer → serving → bake | confirm → baked
//
// With steps there is a canary after each steer but the last (canary.go).
// Surge replace has a drain before its start (alone.go).
// Surge one goes round start … steer → min-ready once for each worker. Nothing
// before steer touches the generation that serves.
type attempt struct {
	id       Rollout
	what     string // start, reload, rollback, loop
	by       string
	origin   Origin
	why      string
	settings Settings
	token    string
	version  *Version // a kept one; nil: what is configured
	until    Until
	confirm  time.Duration
	req      Request
	from     Generation // what was active when it began
	began    time.Time
	switched time.Time // when it had all the traffic; zero: not yet
	replaces string    // whose rollout was given up for it: its asker is told, too

	stage    Stage
	since    time.Time
	deadline time.Time
	first    time.Time // the deadline as it was set; only push moves both

	prepared  *Prepared
	gen       *generation
	one       bool // one worker at a time
	canary    canary
	saveSeq   uint64 // what the save stage waits for
	unsaved   bool   // it goes on although that failed
	intended  bool   // the second save, of the intent, was asked for
	steerSeq  uint64
	steered   bool
	complaint string        // the last failed check that was reported
	unwanted  bool          // a person, or the end of the service, ended it: no failure
	closing   time.Time     // when MinReady, or a step, was over; it goes on once every worker has passed a check since
	yielded   bool          // surge one: an old worker was told to leave for the newest
	leaver    *worker       // surge one: the old worker that must be gone before the next is started
	goneBy    time.Time     // …or that is waited for no longer
	alone     bool          // surge replace: nobody else may live when its workers start
	ends      bool          // surge replace: what served was told to end
	queues    []Share       // surge replace: where new connections wait for it; nil: where they went before
	waited    time.Duration // surge replace: how long nobody accepted
	back      *Version      // surge replace: what a failure in its bake goes back to
}

var stageAfter = map[Stage][]Stage{
	StagePrepare:  {""},
	StageSave:     {StagePrepare, StageStart, StageCheck, StageWarm},
	StageDrain:    {StagePrepare, StageSave},
	StageStart:    {StagePrepare, StageSave, StageDrain, StageSteer, StageMinReady},
	StageCheck:    {StageStart},
	StageWarm:     {StageStart, StageCheck},
	StageActivate: {StageSave, StageStart, StageCheck, StageWarm},
	StageSteer:    {StageActivate, StageCanary},
	StageMinReady: {StageSteer},
	StageCanary:   {StageSteer},
	StageServing:  {StageSteer, StageMinReady},
	StageBake:     {StageServing},
	StageConfirm:  {StageServing},
	StageBaked:    {StageServing, StageBake, StageConfirm},
}

// enter is the only way from one stage to the next.
func (m *Machine) enter(a *attempt, s Stage, timeout time.Duration, detail string) {
	mustFollow(m, stageAfter, a.stage, s, a)
	keep := s == StageCheck // StartTimeout goes on
	a.stage, a.since = s, m.now
	if !keep {
		a.deadline = time.Time{}
		if timeout > 0 {
			a.deadline = m.now.Add(timeout)
		}
		a.first = a.deadline
	}
	m.report(a, a.deadline, detail)
}

func (m *Machine) report(a *attempt, deadline time.Time, detail string) {
	r := Report{Rollout: a.id, Stage: a.stage, Detail: detail, Deadline: deadline,
		What: a.what, By: a.by, Origin: a.origin, Why: a.why, From: a.from, Began: a.began}
	switch {
	case a.gen != nil:
		r.Generation, r.Version = a.gen.id, a.gen.version
	case a.version != nil:
		r.Version = *a.version
	}
	m.emit(r)
}

// automatic rollouts are held back; a start is nobody's storm.
func (a *attempt) automatic() bool {
	return a.what != "start" && (a.origin == Watch || a.origin == Internal)
}

// waits: going forward waits for the disk, going back does not.
func (a *attempt) waits() bool { return a.version == nil }

// moved: some new connection may have gone to the candidate.
func (m *Machine) moved(a *attempt) bool { return a != nil && a.gen != nil && a.gen.touched }

// begin starts a rollout. Whatever ran before has been ended.
func (m *Machine) begin(a *attempt) {
	m.dropScale(a)
	m.tellVerdict(m.stillServing())
	m.nextRollout++
	a.id, a.began = m.nextRollout, m.now
	if m.active != nil {
		a.from = m.active.id
	}
	m.try = a
	m.boot.due = time.Time{}
	if a.automatic() {
		m.automatic.begun(m.now)
	}
	m.enter(a, StagePrepare, a.settings.PrepareTimeout, a.replaces)
	m.emit(Prepare{Rollout: a.id, Token: a.token, Version: cloneVersion(a.version)})
}

// prepared takes the settings of a version that is run with its own. How many workers there
// are is the service's: a way back must not cost most of them.
func (m *Machine) prepared(a *attempt, ev Prepared) {
	a.prepared = &ev
	if ev.Settings != nil {
		own := ev.Settings.whole()
		own.Processes = a.settings.Processes
		a.settings = own
	}
	if ev.Notice != "" {
		m.report(a, a.deadline, ev.Notice)
	}
}

// noted is what is to be known of a kept version, as a part of a sentence.
func (a *attempt) noted() string {
	if a.version == nil || a.prepared == nil || a.prepared.Notice == "" {
		return ""
	}
	return "; " + a.prepared.Notice
}

// advanceTry takes the running rollout as far as it can go now.
func (m *Machine) advanceTry() {
	for a := m.try; a != nil && m.try == a && m.advanceOnce(a); {
	}
}

func (m *Machine) advanceOnce(a *attempt) bool {
	switch a.stage {
	case StagePrepare:
		return a.prepared != nil && m.create(a)
	case StageSave:
		if m.saving.saved < a.saveSeq && !a.unsaved {
			return false
		}
		a.unsaved = false
		if a.intended {
			m.activateBatch(a)
		} else {
			m.launch(a)
		}
		return true
	case StageDrain:
		return m.startAlone(a)
	case StageStart, StageCheck, StageWarm:
		return m.advanceChecks(a)
	case StageActivate:
		for _, w := range a.gen.workers {
			if w.phase == PhaseActivating {
				return false
			}
		}
		m.takeStep(a, a.nextStep(false))
		return true
	case StageSteer:
		if !a.steered && !a.alone { // whose clients wait where it reads
			return false
		}
		if a.splits() {
			m.holdStep(a)
			return true
		}
		if a.one && a.settings.MinReady > 0 && m.active.alive() {
			a.closing = time.Time{}
			m.enter(a, StageMinReady, a.settings.MinReady, "")
			return true
		}
		return m.goOn(a)
	case StageCanary:
		return m.advanceStep(a)
	case StageMinReady:
		return (a.yielded || !m.active.alive() || m.proven(a)) && m.goOn(a)
	}
	return false
}

// goOn: who is to have the traffic now has it.
func (m *Machine) goOn(a *attempt) bool {
	if m.complete(a) {
		m.finish(a)
		return false
	}
	return m.nextOne(a)
}

// create makes the candidate generation of what was prepared: memory, slots,
// then the first save, so that no number is ever given twice.
func (m *Machine) create(a *attempt) bool {
	m.dropSteps(a)
	one, why := m.fits(a)
	if why != "" {
		m.fail(StagePrepare, nil, why)
		return false
	}
	need := 1
	if a.settings.SlotPerWorker {
		need = a.settings.Processes
	}
	if m.cramped(need) {
		m.fail(StagePrepare, nil, m.crampedBy(need))
		return false
	}
	if free := m.slotsIn(slotFree); free < need {
		if !m.slotsComing() && !m.cutOldest("a new generation needs its slot") {
			m.fail(StagePrepare, nil, fmt.Sprintf("it needs %s and only %d of the pool's %d are free: %d are in use, %d in quarantine",
				number(need, "slot"), free, len(m.slots), m.slotsIn(slotManned), m.slotsIn(slotQuarantine)))
		}
		return false // until some are, or the stage's deadline
	}
	a.one = one
	g := &generation{
		id: max(m.state.NextGeneration, 1), version: a.prepared.Version, settings: a.settings,
		token: a.token, made: a, slot: noSlot,
	}
	if a.version != nil {
		g.token = m.token
	}
	m.state.NextGeneration = g.id + 1
	if !a.settings.SlotPerWorker {
		g.slot = m.take(g)
	}
	for range a.settings.Processes {
		s := &seat{slot: g.slot}
		if a.settings.SlotPerWorker {
			s.slot = m.take(g)
		}
		g.seats = append(g.seats, s)
	}
	m.generations = append(m.generations, g)
	m.become(g, PhaseStarting, a.settings.candidateTimeout(one))
	a.gen = g
	a.saveSeq = m.save()
	if a.waits() {
		m.enter(a, StageSave, a.settings.SaveTimeout, "")
		return true
	}
	m.launch(a)
	return true
}

// startBatch starts all workers, or the next one.
func (m *Machine) startBatch(a *attempt) {
	m.enter(a, StageStart, a.settings.StartTimeout, "")
	for _, s := range a.gen.seats {
		if s.worker == nil {
			m.man(a.gen, s)
			if a.one {
				return
			}
		}
	}
}

// advanceChecks follows the slowest worker.
func (m *Machine) advanceChecks(a *attempt) bool {
	order := map[Stage]int{StageStart: 0, StageCheck: 1, StageWarm: 2}
	least := 3
	for _, w := range a.gen.workers {
		if w.phase != PhaseActive && w.phase != PhaseChecked {
			least = min(least, order[stageOf(w.phase)])
		}
	}
	switch {
	case least == 1 && a.stage == StageStart:
		m.enter(a, StageCheck, 0, "")
		return true
	case least == 2 && a.stage != StageWarm:
		m.enter(a, StageWarm, a.settings.WarmTimeout, "")
		return true
	case least < 3:
		return false
	}
	if a.intended {
		m.activateBatch(a)
		return true
	}
	a.intended = true
	m.state.Active = cloneVersion(&a.gen.version)
	a.saveSeq = m.save()
	if a.waits() {
		m.enter(a, StageSave, a.settings.SaveTimeout, "")
	} else {
		m.activateBatch(a)
	}
	return true
}

func (m *Machine) activateBatch(a *attempt) {
	m.enter(a, StageActivate, a.settings.AcceptTimeout, "")
	for _, w := range a.gen.workers {
		if w.phase == PhaseChecked {
			m.activate(w)
		}
	}
}

// moveTraffic is the moment that everything before leads to.
func (m *Machine) moveTraffic(a *attempt) {
	m.enter(a, StageSteer, a.settings.SteerTimeout, "")
	a.gen.traffic, a.steered = true, false
	a.yielded = false
	if old := m.active; old != nil {
		switch {
		case a.splits():
		case a.one && !m.complete(a):
			m.stopReplacing(old)
			if a.settings.MinReady == 0 {
				m.yield(a)
			}
		default:
			old.traffic = false
		}
	}
	before := m.steering.seq
	m.resteer()
	if m.noteWaiting(); a.alone {
		a.waited = m.waited
	}
	a.steerSeq = m.steering.seq
	if m.steering.seq == before && m.steering.due.IsZero() {
		a.steered = true // nothing had to change
		a.gen.touched = true
	}
}

func (m *Machine) expireTry(a *attempt) {
	var why string
	switch a.stage {
	case StagePrepare:
		why = "it could not be prepared within " + a.settings.PrepareTimeout.String()
		if a.prepared != nil {
			why = fmt.Sprintf("no slot became free for it within %s: %d are in quarantine, %d in use",
				a.settings.PrepareTimeout, m.slotsIn(slotQuarantine), m.slotsIn(slotManned))
		}
	case StageSave:
		m.notSaved(a, "no answer within "+a.settings.SaveTimeout.String())
		a.deadline, a.first = time.Time{}, time.Time{}
		return
	case StageMinReady:
		m.besideOver(a)
		return
	case StageCanary:
		m.stepOver(a)
		return
	case StageDrain:
		why = "who served before did not end in time"
	case StageSteer:
		why = "the steering did not answer within " + a.settings.SteerTimeout.String()
	default:
		why = "the stage took longer than it may"
	}
	m.fail(a.stage, nil, why)
}
