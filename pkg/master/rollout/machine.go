package rollout

import (
	"math/rand/v2"
	"time"
)

// Options is what a Machine is built from.
type Options struct {
	Slots    int          // size of the pool; a slot is an index below it
	Rand     *rand.Rand   // for the jitter of waits; nil: seeded with ones
	Violated func(string) // is told of a broken invariant; nil: panic
}

// Machine decides what becomes of a service. It belongs to one goroutine.
type Machine struct {
	options Options
	now     time.Time // of the running Step
	next    time.Time // earliest thing to do, as of the end of the last Step
	out     []Command // of the running Step

	booted   bool
	resuming bool // taking over what another machine has left
	served   bool // some generation has had the traffic
	exited   bool
	settings Settings // in force
	token    string   // of the configuration in force
	boot     boot

	generations []*generation // living ones, oldest first
	workers     map[Worker]*worker
	slots       []slot
	active      *generation
	parked      *generation
	try         *attempt // the rollout on its way to the traffic
	bake        *bake    // the proving of the active generation

	steering  steering
	compared  Compare // what is compared now
	saving    saving
	state     State // what the next Save writes
	requests  map[Request]struct{}
	automatic automatic
	scale     *scale
	stop      *stop
	verdict   *verdict // of a rollout that was alone and whose way back is not done

	somebody   bool          // a live worker can be steered to
	nobody     time.Time     // when the master answers itself; zero: somebody serves
	unheard    time.Time     // since when nobody takes new connections; zero: somebody does
	waited     time.Duration // how long nobody did, the last time
	down       bool          // the master answers itself
	last       *Entry
	lastFailed *Entry
	retained   []string
	lastCut    *Entry
	crashes    []Entry // and cuts of this Step, to be told after everything that matters more

	nextWorker  Worker
	nextRollout Rollout
}

// New returns a machine that waits for Booted.
func New(o Options) *Machine {
	if o.Rand == nil {
		o.Rand = rand.New(rand.NewPCG(1, 1))
	}
	return &Machine{
		options:  o,
		workers:  map[Worker]*worker{},
		slots:    make([]slot, max(o.Slots, 1)),
		requests: map[Request]struct{}{},
		settings: Settings{}.whole(),
	}
}

// Step takes one fact and the time at which it was noticed and returns what is
// to be done about it, in order.
func (m *Machine) Step(now time.Time, ev Event) []Command {
	m.out = nil
	m.wake(now)
	if !m.stale(ev) {
		if b, ok := ev.(Beat); ok && m.due().After(m.now) && m.beat(m.workers[b.Worker]) {
			return nil // a heartbeat at a quiet moment changes nothing else
		}
		m.handle(ev)
		m.advance() // what follows from the fact comes before what time brings
	}
	if !m.due().After(m.now) {
		m.tick()
		m.advance()
	}
	m.tellTarget()
	m.check()
	m.next = m.earliest()
	return m.out
}

// Next is the time by which Step wants to be called again, with Ticked if
// nothing else happens. Zero: nothing is waited for.
func (m *Machine) Next() time.Time { return m.next }

// due is Next, or a time that never comes.
func (m *Machine) due() time.Time {
	if m.next.IsZero() {
		return m.now.Add(time.Hour)
	}
	return m.next
}

func (m *Machine) emit(c Command) { m.out = append(m.out, c) }

// stale is the one place where facts are dropped that nobody waits for any
// more: of workers that are gone or have moved on, of rollouts that were
// superseded, of steerings and saves that newer ones have overtaken.
func (m *Machine) stale(ev Event) bool {
	phase := func(id Worker, want ...Phase) bool {
		w := m.workers[id]
		if w == nil {
			return true
		}
		for _, p := range want {
			if w.phase == p {
				return false
			}
		}
		return len(want) > 0
	}
	preparing := func(id Rollout) bool {
		return m.try != nil && m.try.id == id && m.try.stage == StagePrepare && m.try.prepared == nil
	}
	switch ev := ev.(type) {
	case Prepared:
		return !preparing(ev.Rollout)
	case PrepareFailed:
		return !preparing(ev.Rollout)
	case Started:
		return phase(ev.Worker)
	case StartFailed:
		return phase(ev.Worker, PhaseStarting, PhaseKilled)
	case Ready:
		return phase(ev.Worker, PhaseStarting)
	case Waiting:
		return phase(ev.Worker, PhaseStarting)
	case Extended:
		return phase(ev.Worker, PhaseStarting, PhaseChecking, PhaseDraining, PhaseStopping)
	case Paced:
		return phase(ev.Worker)
	case Unfit:
		return phase(ev.Worker, PhaseStarting, PhaseChecking, PhaseWarming, PhaseChecked, PhaseActivating, PhaseActive, PhaseParked)
	case Triggered:
		return phase(ev.Worker, PhaseStarting, PhaseChecking, PhaseWarming, PhaseChecked, PhaseActivating, PhaseActive, PhaseParked, PhaseDraining)
	case Leaves:
		return phase(ev.Worker, PhaseActive, PhaseParked)
	case Probed:
		return phase(ev.Worker) || !m.workers[ev.Worker].probing
	case Warmed:
		return phase(ev.Worker, PhaseWarming)
	case Accepting:
		return phase(ev.Worker, PhaseActivating)
	case Beat:
		return phase(ev.Worker)
	case Drained:
		return phase(ev.Worker, PhaseDraining)
	case Exited:
		return phase(ev.Worker)
	case Steered:
		return !m.steering.outstanding(ev.Seq)
	case SteerFailed:
		return !m.steering.outstanding(ev.Seq)
	case SlotQuiet:
		return !m.validSlot(ev.Slot) || m.slots[ev.Slot].state != slotQuarantine
	case Saved:
		return ev.Seq <= m.saving.saved || ev.Seq > m.saving.seq
	case SaveFailed:
		return ev.Seq <= m.saving.saved || ev.Seq > m.saving.seq
	case Judged:
		return !m.judges(ev.Rollout)
	case Passed:
		return !m.compares(ev.Rollout)
	case Incomparable:
		return !m.compares(ev.Rollout)
	case Booted:
		return m.booted
	case nil:
		return true
	}
	return false
}

func (m *Machine) handle(ev Event) {
	if m.refuseOutOfTime(ev) {
		return
	}
	switch ev := ev.(type) {
	case Booted:
		m.bootUp(ev)
	case ReloadAsked:
		m.reloadAsked(ev)
	case RollbackAsked:
		m.rollbackAsked(ev)
	case PromoteAsked:
		m.promoteAsked(ev)
	case PauseAsked:
		m.pauseAsked(ev)
	case ResumeAsked:
		m.resumeAsked(ev)
	case AbortAsked:
		m.abortAsked(ev)
	case HoldAsked:
		m.holdAsked(ev)
	case UnholdAsked:
		m.unholdAsked(ev)
	case ScaleAsked:
		m.scaleAsked(ev)
	case StopAsked:
		m.stopAsked(ev)
	case Prepared:
		m.prepared(m.try, ev)
	case PrepareFailed:
		m.fail(StagePrepare, nil, ev.Reason)
	case Started:
		m.started(m.workers[ev.Worker], ev.PID)
	case StartFailed:
		m.gone(m.workers[ev.Worker], "could not be started: "+ev.Reason, Cut{})
	case Ready:
		m.ready(m.workers[ev.Worker])
	case Waiting:
		m.waiting(m.workers[ev.Worker], ev.Detail, ev.Vain)
	case Extended:
		m.extend(m.workers[ev.Worker], ev.By)
	case Paced:
		m.pace(m.workers[ev.Worker], ev.Every)
	case Unfit:
		m.unfit(m.workers[ev.Worker], ev.Why)
	case Triggered:
		m.trigger(m.workers[ev.Worker])
	case Leaves:
		m.leaves(m.workers[ev.Worker])
	case Probed:
		m.probed(m.workers[ev.Worker], ev)
	case Warmed:
		m.warmed(m.workers[ev.Worker], ev.OK, ev.Detail)
	case Accepting:
		m.accepting(m.workers[ev.Worker])
	case Steered:
		m.steered(ev.Seq)
	case SteerFailed:
		m.steerFailed(ev.Seq, ev.Reason)
	case Beat:
		m.beat(m.workers[ev.Worker])
	case Drained:
		m.drained(m.workers[ev.Worker])
	case Exited:
		m.gone(m.workers[ev.Worker], "exited: "+ev.Detail, ev.Cut)
	case SlotQuiet:
		m.slotQuiet(ev.Slot)
	case Grown:
		m.grow(ev.Slots)
	case Saved:
		m.saved(ev.Seq)
	case SaveFailed:
		m.saveFailed(ev.Seq, ev.Reason)
	case Judged:
		m.judged(ev)
	case Passed:
		m.settled("it has passed the comparison")
	case Incomparable:
		m.settled(ev.Why)
	case Pressed:
		m.pressed(ev.Detail)
	case Ticked:
	}
}

// advance does whatever has become possible, in the order in which it matters:
// first that somebody serves, then that the next one comes, then that the last
// ones leave.
func (m *Machine) advance() {
	if m.exited || !m.booted {
		return
	}
	if !m.ending() {
		m.judge()
		m.judgeOne()
		m.advanceTry()
		m.judge() // what advanceTry gave up may have left the bake to be judged
	}
	m.resteer()
	m.manDue()
	m.tellCrashes()
	m.tellHealth()
	m.comeBack()
	m.watchNobody()
	m.settleScale()
	m.settleWaiters()
	m.settleVerdict()
	m.leave()
	m.tidySlots()
	m.tendQueues()
	if m.stop == nil {
		m.startDelayed()
	}
	m.tendQueues() // again, as a delayed rollout that starts may have given workers up
	m.rehome()
	m.compare()
	m.finishStop()
}
