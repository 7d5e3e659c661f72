package rollout

import (
	"container/heap"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// world is what the machine is let loose on in the simulation. It keeps its own
// model of what is alive, who has passed which check and where new connections
// really go, and never asks the machine what it believes.
type world struct {
	r    *rand.Rand
	m    *Machine
	now  time.Time
	kind climate
	set  Settings

	queue   queue
	seq     int
	procs   map[Worker]*proc
	live    []*proc // those whose end the machine has not heard of
	bySlot  map[Slot]map[Worker]*proc
	touched map[Generation]bool // had traffic for real
	gens    map[Generation]bool
	steered []Share // for real
	heard   uint64  // the newest Steer that the machine knows to be in force…
	known   []Share // …and what it was
	asks    []ask   // Steers without a delivered answer
	failedU time.Time
	holes   map[Slot]bool // in quarantine and not quiet yet
	owner   map[Slot]Generation
	disk    State
	outage  bool // the database that everybody's health check asks
	slack   time.Duration

	requests map[Request]string
	nextReq  Request
	nextVer  int
	forward  map[Rollout]bool // reloads: they wait for the disk
	made     map[Generation]Rollout
	own      map[Rollout]ownSettings  // of a kept version
	bakes    map[Generation]time.Time // when its bake began
	unwell   map[Generation]bool      // told to fail its checks, or to pass them again
	stopping bool
	exited   bool
	served   bool

	walks    map[Generation]*walk
	words    map[Rollout]bool    // it passed, or cannot be compared
	compared Compare             // what is compared now
	readied  map[Rollout]bool    // prepared
	queued   map[Slot]Generation // clients wait there for the generation, of which nobody lives yet
	slots    int
	used     map[Slot]bool      // was steered to: somebody may wait there
	relieved map[Slot]bool      // the master takes what waits there
	unread   map[Slot]time.Time // since when nobody does
	left     *Snapshot          // on disk, for the next master
	resuming bool               // it goes on from that in this step
	steps    int
	still    int // ticks in a row without time passing
	history  []moment
}

// climate is how bad an episode is, as chances in a thousand.
type climate struct {
	badVersion, drop, twice, crash, hang, late, saveFails, steerFails, stuck, ask, dies int
}

type proc struct {
	id      Worker
	gen     Generation
	slot    Slot
	version string
	born    time.Time
	alive   bool      // for real
	gone    bool      // and the machine has been told
	ready   bool      // told
	up      bool      // ready, for real
	on      bool      // accepts, for real
	passes  int       // told, in a row
	okAt    time.Time // told of the last passed check
	since   time.Time // told that it accepts
	failed  bool      // its last check, as told
	passed  bool
	warmed  bool
	accepts bool // told
	given   bool // was given its listeners, and takes them in time or is killed
	closes  bool // its connections are being closed
	leaving bool // was told to drain, stop or die
	sick    bool
	hung    bool
	mute    bool // does not beat
	beat    time.Time
	every   time.Duration // its own word for the watchdog, as told
	cut     Cut           // what it took with it
	giver   bool          // was told to park, or to drain and no more than that
	gives   []Worker      // told
	split   *Split        // told: no more than this share
	refuses bool          // its checks, for as long as it is sick
	vain    time.Time     // told since then that it will never be fit; zero: it is not
}

type item struct {
	at  time.Time
	seq int
	ev  Event
}

type queue []item

func (q queue) Len() int { return len(q) }
func (q queue) Less(i, j int) bool {
	return q[i].at.Before(q[j].at) || q[i].at.Equal(q[j].at) && q[i].seq < q[j].seq
}
func (q queue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *queue) init()        { heap.Init(q) }
func (q *queue) Push(x any)   { *q = append(*q, x.(item)) }
func (q *queue) Pop() any {
	old := *q
	x := old[len(old)-1]
	*q = old[:len(old)-1]
	return x
}

type moment struct {
	at  time.Time
	ev  Event
	out []Command
}

const remembered = 60 // moments that a failure prints

func (w *world) settings() {
	pick := func(ds ...time.Duration) time.Duration { return ds[w.r.IntN(len(ds))] }
	s := Settings{
		Processes: 1 + w.r.IntN(4), SlotPerWorker: w.r.IntN(3) == 0, SurgeOne: w.r.IntN(3) == 0, SurgeReplace: w.r.IntN(3) == 0,
		Beats: w.r.IntN(4) != 0, Probe: w.r.IntN(5) != 0, Warmup: w.r.IntN(3) == 0,
		StartTimeout: pick(2*time.Second, 20*time.Second), StartInterval: 50 * time.Millisecond, StartSuccesses: 1 + w.r.IntN(3),
		GiveUp:      pick(0, 500*time.Millisecond, 3*time.Second),
		WarmTimeout: 5 * time.Second, PrepareTimeout: 10 * time.Second, AcceptTimeout: 2 * time.Second,
		SteerTimeout: time.Second, SaveTimeout: 3 * time.Second,
		ActiveInterval: 2 * time.Second, ActiveTimeout: time.Second, ActiveFailures: 1 + w.r.IntN(3),
		MinReady: pick(0, 0, time.Second, 4*time.Second),
		Bake:     pick(0, 200*time.Millisecond, 5*time.Second, 30*time.Second), Cooldown: pick(0, 5*time.Second), MaxPerMinute: 6,
		Handover:     w.r.IntN(4) != 0,
		DrainTimeout: pick(0, time.Second, 20*time.Second), MaxDraining: 1 + w.r.IntN(4), KillAfter: 2 * time.Second,
		RestartInitial: 100 * time.Millisecond, RestartMax: 10 * time.Second, Loop: 5, LoopWindow: time.Minute,
		UnavailableAfter: pick(0, 5*time.Second), StopTimeout: 10 * time.Second,
		BeatInterval: time.Second, BeatsSteer: 5, BeatsKill: 10,
		ShortOne: w.r.IntN(2) == 0, MemoryReserve: 1 << 20, ParkedClose: w.r.IntN(2) == 0,
	}
	if s.SlotPerWorker && w.r.IntN(4) == 0 {
		s.Processes += 8
	}
	if !s.Beats {
		s.SaysReady = w.r.IntN(2) == 0
		s.Watchdog = pick(0, 0, 3*time.Second)
	}
	if w.r.IntN(3) == 0 {
		s.Steps, s.Sticky, s.SkipBaked = w.someSteps(), w.r.IntN(2) == 0, w.r.IntN(2) == 0
		s.MaxWait = pick(0, time.Second, 20*time.Second, 5*time.Minute)
		s.WhenInconclusive = []Inconclusive{"", InconclusivePause, InconclusivePromote, InconclusiveRollback}[w.r.IntN(4)]
	}
	w.set = s.whole()
}

// reboot is a new master with what the last one saved.
func (w *world) reboot() {
	w.left = nil
	w.slots = 8 + w.r.IntN(9)
	w.m = New(Options{Slots: w.slots, Rand: rand.New(rand.NewPCG(w.r.Uint64(), 1))})
	w.queue, w.live, w.procs, w.bySlot = nil, nil, map[Worker]*proc{}, map[Slot]map[Worker]*proc{}
	w.gens, w.touched, w.holes, w.owner = map[Generation]bool{}, map[Generation]bool{}, map[Slot]bool{}, map[Slot]Generation{}
	w.used, w.relieved, w.unread = map[Slot]bool{}, map[Slot]bool{}, map[Slot]time.Time{}
	w.steered, w.asks, w.failedU = nil, nil, time.Time{}
	w.heard, w.known = 0, nil
	w.forward, w.made, w.own = map[Rollout]bool{}, map[Generation]Rollout{}, map[Rollout]ownSettings{}
	w.bakes, w.unwell = map[Generation]time.Time{}, map[Generation]bool{}
	w.readied, w.queued, w.walks = map[Rollout]bool{}, map[Slot]Generation{}, map[Generation]*walk{}
	w.words = map[Rollout]bool{}
	w.stopping, w.exited, w.served = false, false, false
	w.slack = 0
	w.step(Booted{Settings: w.set, State: w.disk})
}

func (w *world) chance(perMille int) bool { return perMille > 0 && w.r.IntN(1000) < perMille }

func (w *world) in(d time.Duration, ev Event) {
	w.seq++
	heap.Push(&w.queue, item{w.now.Add(d), w.seq, ev})
}

func (w *world) soon() time.Duration {
	return time.Duration(w.r.IntN(5000)) * time.Microsecond
}

// post brings a fact to the machine: late, never or twice.
func (w *world) post(d time.Duration, ev Event, droppable bool) {
	if droppable && w.chance(w.kind.drop) {
		return
	}
	w.in(d, ev)
	if w.chance(w.kind.twice) {
		w.in(d+w.soon()*10, ev)
	}
}

// run lets n events happen.
func (w *world) run(n int) {
	for end := w.steps + n; w.steps < end && !w.exited; {
		w.once()
	}
}

// once moves time to the next thing that happens.
func (w *world) once() {
	next := w.m.Next()
	if w.chance(w.kind.late) {
		// The machine sleeps; what happens meanwhile is heard of afterwards.
		gap := time.Duration(w.r.IntN(60_000)) * time.Millisecond
		w.now = w.now.Add(gap)
		w.slack += gap + 4*w.set.BeatInterval
	}
	var ev Event = Ticked{}
	if len(w.queue) > 0 && (next.IsZero() || !w.queue[0].at.After(next) || w.now.After(w.queue[0].at)) {
		it := heap.Pop(&w.queue).(item)
		if it.at.After(w.now) {
			w.now, w.still = it.at, 0
		}
		ev = it.ev
	} else if next.IsZero() {
		w.fail("nothing is waited for and nothing happens")
	} else if next.After(w.now) {
		w.now, w.still = next, 0
	} else if w.still++; w.still > 300 {
		w.fail("it wants to be woken again and again")
	}
	told := w.m
	if w.chance(w.kind.ask) && !w.stopping {
		w.step(w.request())
	}
	if w.chance(w.kind.crash) {
		w.misfortune()
	}
	if w.vanished(ev) || w.m != told { // it was for a master that has died
		return
	}
	w.step(ev)
}

// vanished: what a process was about to say when it died is not said.
func (w *world) vanished(ev Event) bool {
	var id Worker
	switch ev := ev.(type) {
	case heartbeat:
		if p := w.procs[ev.w]; p.alive {
			w.in(w.set.BeatInterval, ev)
			if !p.hung && !p.mute && !w.chance(w.kind.drop) {
				p.beat = w.now
				w.step(Beat{Worker: ev.w})
			}
		}
		return true
	case fate:
		if p := w.procs[ev.w]; w.r.IntN(2) == 0 {
			p.sick = true
		} else {
			w.die(p, w.soon(), "panic: nil map")
		}
		return true
	case reunion:
		w.reunite(w.procs[ev.w])
		return true
	case lastBreath:
		w.die(w.procs[ev.w], 0, "exit status 0")
		return true
	case Ready:
		id = ev.Worker
	case Accepting:
		id = ev.Worker
	case Drained:
		id = ev.Worker
	case Warmed:
		if ev.OK {
			id = ev.Worker
		}
	case Probed:
		if ev.OK {
			id = ev.Worker
		}
	}
	return id != 0 && !w.procs[id].alive
}

// heartbeat is the world's own event: it becomes a Beat.
type heartbeat struct{ w Worker }

func (heartbeat) event() {}

// misfortune hits somebody who serves, or everybody's database.
func (w *world) misfortune() {
	if w.r.IntN(20) == 0 {
		w.outage = !w.outage
		return
	}
	if w.r.IntN(40) == 0 {
		w.step(Pressed{Detail: "memory.high"})
		return
	}
	var ids []Worker
	for _, p := range w.live {
		if p.alive {
			ids = append(ids, p.id)
		}
	}
	if len(ids) == 0 {
		return
	}
	p := w.procs[ids[w.r.IntN(len(ids))]]
	if !w.set.Beats && w.r.IntN(3) == 0 {
		w.word(p)
		return
	}
	switch w.r.IntN(6) {
	case 0:
		p.sick = !p.sick
	case 1:
		p.hung = !p.hung
	case 2:
		p.mute = !p.mute
	default:
		w.die(p, w.soon(), "exit status 2")
	}
}

// word is what a program of any kind may say of itself, at any time.
func (w *world) word(p *proc) {
	switch w.r.IntN(5) {
	case 4:
		w.post(w.soon(), Paced{Worker: p.id, Every: time.Duration(w.r.IntN(10_000)) * time.Millisecond}, true)
	case 0:
		w.post(w.soon(), Extended{Worker: p.id, By: time.Duration(w.r.IntN(30_000)) * time.Millisecond}, true)
	case 1:
		w.post(w.soon(), Waiting{Worker: p.id, Detail: "it has not bound tcp://127.0.0.1:8080"}, true)
	case 2:
		w.post(w.soon(), Triggered{Worker: p.id}, true)
	case 3:
		w.post(w.soon(), Leaves{Worker: p.id}, true)
		if w.set.DrainTimeout == 0 || w.r.IntN(4) != 0 {
			w.in(time.Duration(w.r.IntN(3000))*time.Millisecond, lastBreath{p.id})
		}
	}
}

// showsVain notes since when the machine is told that it will never be fit.
func (p *proc) showsVain(now time.Time, vain bool) {
	switch {
	case !vain:
		p.vain = time.Time{}
	case p.vain.IsZero():
		p.vain = now
	}
}

// mustBeVain: only what has shown for long enough that it will never be fit is given up.
func (w *world) mustBeVain(c Reply) {
	if !strings.Contains(c.Reason, "health.start.give_up") || w.slack > 0 {
		return
	}
	p := w.procs[c.Worker]
	if p == nil || p.vain.IsZero() || w.set.GiveUp == 0 || w.now.Sub(p.vain) < w.set.GiveUp {
		w.fail("worker %d is given up (%s), and has not shown for %v that it will never be fit: %+v", c.Worker, c.Reason, w.set.GiveUp, p)
	}
}

func (w *world) die(p *proc, d time.Duration, how string) {
	if p.alive {
		p.alive = false
		if p.accepts && w.r.IntN(3) == 0 {
			p.cut = Cut{Connections: uint64(p.id), Requests: uint64(w.r.IntN(3)), LastBeat: w.r.IntN(2) == 0}
			if !w.set.Beats {
				p.cut = Cut{Unknown: true}
			}
		}
		w.post(d, Exited{Worker: p.id, Detail: how, Cut: p.cut}, false)
	}
}

// step tells the machine, checks what it must do in this very step, carries
// out its commands and looks at the world afterwards.
func (w *world) step(ev Event) {
	w.steps++
	must, was := w.musts(ev), w.phases()
	leads := w.leads(ev)
	w.asksForStep(ev)
	w.learn(ev)
	out := w.m.Step(w.now, ev)
	w.remember(moment{w.now, ev, out})
	w.checkCut(ev, was, out)
	w.checkTrust(ev, out)
	w.checkTold(out)
	leads(out)
	if must != nil {
		must(out)
	}
	booted, resumed := ev.(Booted)
	if resumed = resumed && booted.Found != nil; resumed {
		w.mustLeaveAlone(booted.Found.Snapshot, booted.Found, out)
		w.mustKeepTime(booted.Found.Snapshot)
	}
	if w.kind.dies > 0 {
		if w.chance(w.kind.dies) {
			w.dies(ev, out)
			return
		}
		w.leave(ev, out)
	}
	for _, c := range out {
		w.obey(c)
	}
	w.checkClosing()
	if resumed {
		w.retell()
	}
	if _, beat := ev.(Beat); !beat { // who is heard of again is taken up with the next fact
		w.inspectGiving()
		if !w.exited && !w.stopping {
			w.inspectSplit()
			w.inspectCompared()
		}
	}
	w.inspect()
}

// remember keeps what a failure will print: not the quiet beats and ticks.
func (w *world) remember(x moment) {
	if len(x.out) == 0 {
		switch x.ev.(type) {
		case Beat, Ticked, Probed:
			return
		}
	} else if _, probe := x.out[0].(Probe); probe && len(x.out) == 1 {
		return
	}
	if len(w.history) == 2*remembered {
		w.history = append(w.history[:0:0], w.history[remembered:]...)
	}
	w.history = append(w.history, x)
}

// musts are promises about one step.
func (w *world) musts(ev Event) func([]Command) {
	var worker Worker
	switch ev := ev.(type) {
	case RollbackAsked:
		if ev.To != nil {
			return nil
		}
	case Exited:
		worker = ev.Worker
	default:
		return nil
	}
	if w.stopping && (worker == 0 || w.m.ending()) {
		return nil // asked in vain, or nothing is steered any more
	}
	if x := w.m.workers[worker]; x != nil && (x.leaving || x.seat != nil && x.seat.fresh) {
		return nil // its end is a change of size, or the failure of one
	}
	st := w.m.Status()
	if st.Parked == 0 || st.Rollout == nil || st.Rollout.Stage != StageBake && st.Rollout.Stage != StageConfirm {
		return nil
	}
	fit, hit := false, worker == 0
	for _, g := range st.Generations {
		for _, x := range g.Workers {
			if worker != 0 && st.Rollout.What == "rollback" && g.ID == st.Active && x.Phase == PhaseActive && x.ID != worker {
				return nil // what a person rolled back from does not come back while another is alive
			}
			if g.ID == st.Parked && x.Phase == PhaseParked && x.ID != worker {
				if x.Failures > 0 || !x.Healthy {
					return nil
				}
				fit = true
			}
			if g.ID == st.Active && x.ID == worker && x.Phase == PhaseActive {
				hit = true
			}
		}
	}
	if !fit || !hit {
		return nil
	}
	return func(out []Command) {
		for _, c := range out {
			switch c := c.(type) {
			case Steer:
				for _, s := range c.Shares {
					if w.owner[s.Slot] != st.Parked {
						w.fail("step steers to slot %d, not only to parked generation %d", s.Slot, st.Parked)
					}
				}
				return
			case Save:
				w.fail("the disk comes before the steering")
			}
		}
		w.fail("%T in a bake with fit parked generation %d, and the same step does not steer back", ev, st.Parked)
	}
}

// learn is what the machine knows from now on.
func (w *world) learn(ev Event) {
	switch ev := ev.(type) {
	case Prepared:
		w.readied[ev.Rollout] = true
	case Started:
		if p := w.procs[ev.Worker]; !w.set.tellsReady() {
			p.ready = true
		}
	case Ready:
		if p := w.procs[ev.Worker]; !p.ready { // the first one: another tells nothing
			p.ready, p.vain = true, time.Time{}
		}
	case Waiting:
		w.procs[ev.Worker].showsVain(w.now, ev.Vain)
	case Probed:
		p := w.procs[ev.Worker]
		p.showsVain(w.now, ev.Steady)
		if p.passes++; !ev.OK {
			p.passes = 0
		} else {
			p.okAt = w.now
		}
		p.failed = !ev.OK
		p.passed = p.passed || p.passes >= w.set.StartSuccesses
	case Paced:
		w.procs[ev.Worker].every = min(max(ev.Every, watchdogLeast), watchdogMost)
	case Warmed:
		p := w.procs[ev.Worker]
		p.warmed = p.warmed || ev.OK
	case Accepting:
		p := w.procs[ev.Worker]
		if p.accepts = true; p.since.IsZero() {
			p.since = w.now
		}
	case Passed:
		w.words[ev.Rollout] = true
	case Incomparable:
		w.words[ev.Rollout] = true
	case Exited:
		w.bury(ev.Worker)
	case StartFailed:
		w.bury(ev.Worker)
	case SlotQuiet:
		if w.holes[ev.Slot] {
			delete(w.used, ev.Slot)
		}
		delete(w.holes, ev.Slot)
		delete(w.owner, ev.Slot)
	case Steered:
		w.answered(ev.Seq)
	case SteerFailed:
		for i, a := range w.asks {
			if a.seq == ev.Seq {
				w.asks = append(w.asks[:i:i], w.asks[i+1:]...)
				break
			}
		}
		w.failedU = w.now.Add(steerAgainMost + 100*time.Millisecond)
	}
}

func (w *world) bury(id Worker) {
	p := w.procs[id]
	p.gone = true
	delete(w.bySlot[p.slot], id)
	w.live = slices.DeleteFunc(w.live, func(x *proc) bool { return x == p })
}

func (w *world) answered(seq uint64) {
	for _, a := range w.asks {
		if a.seq == seq && seq > w.heard {
			w.heard, w.known = seq, a.shares
			w.stepHeard()
		}
	}
	for len(w.asks) > 0 && w.asks[0].seq <= seq {
		w.asks = w.asks[1:]
	}
}

func (w *world) fail(format string, args ...any) {
	panic(broken(fmt.Sprintf(format, args...)))
}

// broken is a failure of the simulation.
type broken string

// tell prints the last moments.
func (w *world) tell() string {
	var b strings.Builder
	for _, x := range w.history {
		fmt.Fprintf(&b, "%s %T %+v\n", x.at.Sub(epoch), x.ev, x.ev)
		for _, c := range x.out {
			fmt.Fprintf(&b, "\t%s\n", show(c))
		}
	}
	fmt.Fprintf(&b, "really steered: %v, asked %v, slots %+v\n", w.steered, w.asks, w.m.slots)
	st := w.m.Status()
	for _, g := range st.Generations {
		fmt.Fprintf(&b, "g%d %s baked=%v\n", g.ID, g.Phase, g.Baked)
		for _, x := range g.Workers {
			fmt.Fprintf(&b, "  w%d s%d %s failures=%d deadline=%v\n", x.ID, x.Slot, x.Phase, x.Failures, x.Deadline.Sub(epoch))
		}
	}
	fmt.Fprintf(&b, "rollout %+v\n", st.Rollout)
	for _, g := range w.m.generations {
		for _, s := range g.seats {
			fmt.Fprintf(&b, "seat of g%d: %+v\n", g.id, *s)
		}
	}
	return b.String()
}
