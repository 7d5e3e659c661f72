package rollout

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"
)

// obey carries out one command, well or badly.
func (w *world) obey(c Command) {
	switch c := c.(type) {
	case Report:
		if c.Generation != 0 {
			w.made[c.Generation] = c.Rollout
		}
		if _, bakes := w.bakes[c.Generation]; c.Stage == StageBake && !bakes {
			w.bakes[c.Generation] = w.now
		}
	case Prepare:
		w.prepare(c)
	case Start:
		w.start(c)
	case Probe:
		w.probe(w.procs[c.Worker])
	case Warm:
		p := w.procs[c.Worker]
		switch {
		case p.hung || w.chance(w.kind.hang):
		case w.chance(w.kind.hang):
			w.post(w.soon(), Warmed{Worker: p.id, Detail: "GET / said 503"}, false)
		default:
			w.post(w.soon()*4, Warmed{Worker: p.id, OK: true}, false)
		}
	case Activate:
		p := w.procs[c.Worker]
		p.giver, p.gives, p.split, p.closes = false, nil, nil, false
		delete(w.relieved, p.slot)
		p.given = true
		if w.chance(w.kind.hang) {
			p.hung = true
		}
		if !p.hung {
			p.on = true
			w.post(w.soon(), Accepting{Worker: p.id}, true)
		}
	case Steer:
		w.steer(c)
	case Drain:
		w.drain(c)
	case Give:
		w.give(c)
	case Compare:
		w.compare(c)
	case Park:
		p := w.procs[c.Worker]
		w.mustGive(p)
		if p.closes = c.Close; p.closes && w.set.Beats {
			w.fail("connections of worker %d are closed, which could move them", p.id)
		}
	case Queue:
		w.queueFor(c)
	case Announce:
		if !w.stopping {
			w.fail("worker %d is told of a stop that nobody asked for", c.Worker)
		}
	case Terminate:
		p := w.procs[c.Worker]
		p.leaving, p.giver = true, false
		if p.hung || w.chance(w.kind.hang) {
			p.hung = true
			return
		}
		w.die(p, w.soon(), "signal: terminated")
	case Kill:
		w.kill(c)
	case Quarantine:
		w.quarantine(c.Slot)
	case Relieve:
		w.relieve(c.Slot)
	case Reply:
		what, waits := w.requests[c.Req]
		if !waits {
			w.fail("request %d is answered twice, or was never asked", c.Req)
		}
		delete(w.requests, c.Req)
		w.hasAsked(what, c)
		w.mustBeVain(c)
		if c.Reason == "" || c.Code == 0 || !strings.HasSuffix(c.Reason, ".") {
			w.fail("the answer to %s is no sentence: %+v", what, c)
		}
	case Record:
		w.mustBeInconclusive(c.Entry)
	case Save:
		w.save(c)
	case Exit:
		w.exit()
	}
}

func (w *world) prepare(c Prepare) {
	w.forward[c.Rollout] = c.Token != ""
	switch {
	case w.chance(w.kind.drop):
	case w.chance(w.kind.hang):
		w.post(w.soon(), PrepareFailed{Rollout: c.Rollout, Reason: "hook before: exit status 1"}, false)
	default:
		v := Version{}
		if c.Version != nil {
			v = *c.Version
		} else {
			if w.nextVer == 0 || w.r.IntN(4) != 0 {
				w.nextVer++
			}
			v = w.version(w.nextVer)
		}
		mem := Memory{Known: w.r.IntN(3) == 0, PerWorker: 1 << 20, Available: uint64(w.r.IntN(12)) << 20}
		if w.kind.hang == 0 {
			mem.Available = 1 << 40
		}
		ev := Prepared{Rollout: c.Rollout, Version: v, Memory: mem}
		if s, own := w.ownOf(v); own && c.Version != nil && w.m.try != nil {
			ev.Settings = &s
			w.own[c.Rollout] = ownSettings{s.SlotPerWorker, w.m.try.settings.Processes}
		}
		n := w.set.Processes
		if w.m.try != nil { // it may have been scaled
			n = max(n, w.m.try.settings.Processes)
		}
		w.grown(n, w.set.SlotPerWorker || ev.Settings != nil)
		w.post(w.soon()*5, ev, false)
	}
}

// ownSettings is what a candidate of a kept version has to be like.
type ownSettings struct {
	slotPerWorker bool
	processes     int
}

// ownOf are the settings that a version was kept with, if it was kept with any: of its
// kind, and with a number of workers that is of long ago.
func (w *world) ownOf(v Version) (Settings, bool) {
	s, n := w.set, 0
	for _, c := range []byte(v.ID) {
		n += int(c)
	}
	s.SlotPerWorker, s.Processes = n%2 == 0, MaxProcesses
	return s, n%3 != 0
}

// ownKept: a candidate is as its version was kept, and as many as there are to be.
func (w *world) ownKept(c Start) {
	own, ok := w.own[w.made[c.Generation]]
	for _, g := range w.m.generations {
		if !ok || g.id != c.Generation || g.phase != PhaseStarting {
			continue
		}
		if (g.slot == noSlot) != own.slotPerWorker || len(g.seats) != own.processes {
			w.fail("generation %d of a kept version has %d workers, a slot for each %v; want %+v", g.id, len(g.seats), g.slot == noSlot, own)
		}
	}
}

// grown makes the pool as large as the master would for so many workers.
func (w *world) grown(processes int, slotPerWorker bool) {
	if slotPerWorker && 2*processes > w.slots {
		w.slots = 2*processes + w.r.IntN(9)
		w.in(0, Grown{Slots: w.slots})
	}
}

// version n; some are bad for good, which only serving shows.
func (w *world) version(n int) Version {
	v := version("v" + string(rune('a'+n%26)) + time.Duration(n).String())
	if w.chance(w.kind.badVersion) {
		v.ID += "-bad"
		v.Digest += "-bad"
	}
	return v
}

func (w *world) start(c Start) {
	if w.procs[c.Worker] != nil {
		w.fail("worker %d is started twice", c.Worker)
	}
	p := &proc{id: c.Worker, gen: c.Generation, slot: c.Slot, version: c.Version.ID, born: w.now, alive: true}
	w.procs[p.id] = p
	w.live = append(w.live, p)
	if w.holes[c.Slot] {
		w.fail("slot %d is given to worker %d out of quarantine", c.Slot, p.id)
	}
	if old, owned := w.owner[c.Slot]; owned && old != c.Generation {
		w.fail("slot %d of generation %d is given to generation %d", c.Slot, old, c.Generation)
	}
	if _, owned := w.owner[c.Slot]; !owned && w.maySteer(c.Slot) {
		w.fail("slot %d is given to worker %d while new connections may go there", c.Slot, p.id)
	}
	w.owner[c.Slot] = c.Generation
	w.mustBeAlone(c)
	w.ownKept(c)
	if !w.set.Beats {
		delete(w.relieved, c.Slot) // it is given its socket now
	}
	if w.bySlot[c.Slot] == nil {
		w.bySlot[c.Slot] = map[Worker]*proc{}
	}
	for _, x := range w.bySlot[c.Slot] {
		if x.gen != c.Generation && x.alive {
			w.fail("slot %d is given to worker %d while worker %d of another generation lives on it", c.Slot, p.id, x.id)
		}
	}
	w.bySlot[c.Slot][p.id] = p
	if w.forward[w.made[c.Generation]] && w.disk.NextGeneration <= c.Generation {
		w.fail("generation %d of a reload is started before the disk knows of it", c.Generation)
	}
	w.mustBeReady(c)
	w.gens[c.Generation] = true
	bad := strings.HasSuffix(p.version, "-bad")
	w.in(time.Second, heartbeat{p.id})
	switch {
	case w.chance(w.kind.hang):
		p.alive = false
		w.post(w.soon(), StartFailed{Worker: p.id, Reason: "fork: out of memory"}, false)
		return
	case w.chance(w.kind.hang):
		p.hung = true
		w.post(w.soon(), Started{Worker: p.id, PID: int(p.id)}, true)
		return
	case w.chance(w.kind.hang) || bad && w.r.IntN(3) == 0:
		w.post(w.soon(), Started{Worker: p.id, PID: int(p.id)}, true)
		w.die(p, w.soon()*20, "exit status 1")
		return
	}
	if w.chance(w.kind.hang) {
		p.sick, p.refuses = true, w.r.IntN(2) == 0
	}
	if w.chance(w.kind.hang) {
		w.post(w.soon(), Waiting{Worker: p.id, Detail: "it never spoke to masterd", Vain: true}, true)
		if w.r.IntN(2) == 0 {
			w.post(time.Duration(w.r.IntN(3000))*time.Millisecond, Waiting{Worker: p.id, Detail: "it has not said that it is ready"}, true)
		}
	}
	if bad {
		w.in(time.Duration(w.r.IntN(8000))*time.Millisecond, fate{p.id})
	}
	w.post(w.soon(), Started{Worker: p.id, PID: int(p.id)}, w.set.tellsReady())
	p.up = true
	if w.set.tellsReady() {
		w.post(w.soon()+time.Duration(w.r.IntN(100))*time.Millisecond, Ready{Worker: p.id}, true)
	}
}

// fate is the world's own event: a bad version dies or fails its checks.
type fate struct{ w Worker }

func (fate) event() {}

func (w *world) probe(p *proc) {
	if !p.alive || p.hung {
		return
	}
	ok := !p.sick && !w.outage && !w.chance(w.kind.hang/4)
	// Never twice: of two answers the machine cannot tell which belongs to its
	// newest question, and neither could this world.
	if !w.chance(w.kind.drop) {
		ev := Probed{Worker: p.id, OK: ok, Detail: "GET /healthz said 500"}
		if !ok && p.refuses {
			ev.Detail, ev.Refusal, ev.Steady = "GET /healthz said 404", "GET /healthz said 404", w.r.IntN(20) != 0
		}
		w.in(w.soon(), ev)
	}
}

// maySteer: new connections go to a slot, or will once a Steer is carried out.
func (w *world) maySteer(s Slot) bool {
	if inShares(w.steered, s) {
		return true
	}
	for _, a := range w.asks {
		if inShares(a.shares, s) {
			return true
		}
	}
	return false
}

func (w *world) steer(c Steer) {
	for _, s := range c.Shares {
		ok := false
		for _, p := range w.bySlot[s.Slot] {
			if p.accepts && (p.passed || !w.set.Probe) && (p.warmed || !w.set.Warmup) {
				ok = true
			}
		}
		if ok { // nobody waits for its generation any more
			maps.DeleteFunc(w.queued, func(_ Slot, g Generation) bool { return g == w.owner[s.Slot] })
		}
		ok = ok || w.queued[s.Slot] != 0 && w.queued[s.Slot] == w.owner[s.Slot]
		if !ok || s.Weight == 0 {
			w.fail("slot %d gets weight %d and nobody there has passed the checks", s.Slot, s.Weight)
		}
	}
	w.mustStep(c)
	if w.compared.Weight != 0 {
		w.fail("the steering changes while %+v is compared", w.compared)
	}
	w.asks = append(w.asks, ask{seq: c.Seq, shares: c.Shares})
	if w.chance(w.kind.steerFails) {
		if w.r.IntN(2) == 0 {
			w.apply(c.Shares) // carried out, and nobody hears of it
			return
		}
		w.post(w.soon(), SteerFailed{Seq: c.Seq, Reason: "setsockopt: bad file descriptor"}, false)
		return
	}
	w.apply(c.Shares)
	w.post(w.soon()/10, Steered{Seq: c.Seq}, true)
}

func (w *world) apply(shares []Share) {
	w.steered = shares
	for _, s := range shares {
		w.used[s.Slot] = true
		w.touched[w.owner[s.Slot]] = true
		w.served = true
	}
}

func (w *world) drain(c Drain) {
	p := w.procs[c.Worker]
	if !w.stopping && p.accepts && !p.leaving && w.maySteer(p.slot) {
		sibling := false
		for _, x := range w.bySlot[p.slot] {
			sibling = sibling || x != p && x.accepts && !x.leaving && !x.gone
		}
		// Was its sibling lost while no master looked, new connections wait in the
		// slot for the replacement.
		if !sibling && !w.resuming {
			w.fail("worker %d is drained while new connections go to it", p.id)
		}
	}
	w.mustMakeWay(p)
	p.leaving = true
	w.mustGive(p)
	switch {
	case p.hung || w.chance(w.kind.hang):
		p.hung = true
	case w.r.IntN(3) == 0:
		d := time.Duration(w.r.IntN(30_000)) * time.Millisecond
		w.post(d, Drained{Worker: p.id}, true)
		w.in(d, lastBreath{p.id})
	default:
		w.post(w.soon(), Drained{Worker: p.id}, true)
		w.die(p, w.soon()*3, "exit status 0")
	}
}

// lastBreath is the world's own event: a drained worker exits.
type lastBreath struct{ w Worker }

func (lastBreath) event() {}

func (w *world) kill(c Kill) {
	p := w.procs[c.Worker]
	if strings.Contains(c.Why, "give_up") {
		w.fail("worker %d is given up before its time, and is no candidate", p.id)
	}
	if strings.Contains(c.Why, "watchdog within") {
		limit := cmp.Or(p.every, w.set.Watchdog)
		if quiet := w.now.Sub(p.beat); w.set.Watchdog == 0 || quiet < limit {
			w.fail("worker %d is killed by its watchdog of %v, which it fed %v ago", p.id, limit, quiet)
		}
	}
	if strings.Contains(c.Why, "heard of") {
		if quiet := w.now.Sub(p.beat); quiet < time.Duration(w.set.BeatsSteer+w.set.BeatsKill)*w.set.BeatInterval {
			w.fail("worker %d is killed for missing beats, and was heard of %v ago", p.id, quiet)
		}
		others := p.leaving // one that drains serves nobody new
		for _, s := range w.steered {
			for _, x := range w.bySlot[s.Slot] {
				others = others || x != p && x.accepts && !x.leaving && !x.gone
			}
		}
		if !others {
			w.fail("the last one serving, worker %d, is killed for missing beats", p.id)
		}
	}
	p.leaving, p.giver = true, false
	d := w.soon()
	if w.chance(w.kind.stuck) {
		d = time.Duration(w.r.IntN(90)) * time.Second
	}
	w.die(p, d, "signal: killed")
}

func (w *world) quarantine(s Slot) {
	if w.maySteer(s) {
		w.fail("slot %d is quarantined while new connections may go there", s)
	}
	for _, p := range w.bySlot[s] {
		if !p.gone {
			w.fail("slot %d is quarantined while worker %d lives", s, p.id)
		}
	}
	w.holes[s] = true
	delete(w.queued, s)
	w.in(w.soon()*20, SlotQuiet{Slot: s})
}

// relieve: the master takes what waits in a slot, so nobody else may be about to. New
// connections do not go there any more.
func (w *world) relieve(s Slot) {
	for _, p := range w.bySlot[s] {
		if !p.gone && !p.leaving && (p.on || p.accepts || p.up && !w.set.Beats) {
			w.fail("slot %d is taken from worker %d", s, p.id)
		}
	}
	w.relieved[s] = true
	others := func(shares []Share) []Share {
		return slices.DeleteFunc(slices.Clone(shares), func(x Share) bool { return x.Slot == s })
	}
	w.steered = others(w.steered)
	for i := range w.asks {
		w.asks[i].shares = others(w.asks[i].shares)
	}
}

func (w *world) save(c Save) {
	switch {
	case w.chance(w.kind.saveFails):
		w.post(w.soon(), SaveFailed{Seq: c.Seq, Reason: "no space left on device"}, true)
	default:
		w.disk = c.State
		w.post(w.soon()*3, Saved{Seq: c.Seq}, true)
	}
}

func (w *world) exit() {
	if !w.stopping {
		w.fail("the master exits and nobody asked it to")
	}
	if len(w.requests) > 0 {
		w.fail("the master exits and %v wait", w.requests)
	}
	w.exited = true
}

// inspectQueues: where clients may wait somebody takes them: a worker that accepts,
// or the master; not at once only where a replacement is awaited.
func (w *world) inspectQueues() {
	for s := range w.used {
		read, held := w.relieved[s] || w.holes[s], false
		for _, p := range w.bySlot[s] {
			read = read || p.given && (!p.leaving || !w.set.Beats)
			held = held || !w.set.Beats
		}
		if read {
			delete(w.unread, s)
			continue
		}
		if _, ok := w.unread[s]; !ok {
			w.unread[s] = w.now
		}
		most := w.set.UnavailableAfter + w.slack
		switch {
		case held: // until it is ready or killed: its checks come that way
			continue
		case w.m.ending():
			most = 0
		}
		if d := w.now.Sub(w.unread[s]); d > most {
			w.fail("nobody has taken what waits in slot %d for %v", s, d)
		}
	}
}

// inspect looks at the world after a step.
func (w *world) inspect() {
	if !w.exited {
		w.inspectQueues()
	}
	if w.exited || w.stopping && w.m.Status().Drains.IsZero() { // what is only announced goes on in full
		return
	}
	w.inspectServing()
	for _, p := range w.live {
		if !p.gone && !p.leaving && !p.accepts {
			most := w.set.StartTimeout*2 + w.set.WarmTimeout*2 + 4*w.set.SaveTimeout + w.set.AcceptTimeout + 2*time.Second + w.slack
			if w.now.Sub(p.born) > most {
				w.fail("worker %d of generation %d neither serves nor is killed after %v", p.id, p.gen, w.now.Sub(p.born))
			}
		}
	}
}

// inspectServing: somebody alive who served or serves must be steered to.
func (w *world) inspectServing() {
	if !w.served || w.now.Before(w.failedU) {
		return
	}
	var lonely *proc
	for _, p := range w.live {
		if p.gone || p.leaving || !p.accepts {
			continue
		}
		if w.maySteer(p.slot) || w.keptWaiting() {
			return
		}
		if w.touched[p.gen] {
			lonely = p
		}
	}
	if lonely != nil {
		w.fail("worker %d of generation %d accepts and served before, and nobody alive is steered to", lonely.id, lonely.gen)
	}
}

// phases are those of all workers, before a step.
func (w *world) phases() map[Worker]Phase {
	was := map[Worker]Phase{}
	for id, x := range w.m.workers {
		was[id] = x.phase
	}
	return was
}

// checkCut: what a worker took with it is told once, in the step that hears of
// its end, and nothing else is.
func (w *world) checkCut(ev Event, was map[Worker]Phase, out []Command) {
	if _, booted := ev.(Booted); booted {
		return // who was gone when a master came back took with it what nobody knows
	}
	var want *Exited
	if x, ok := ev.(Exited); ok && was[x.Worker] != "" && x.Cut != (Cut{}) {
		stopped := was[x.Worker] == PhaseStopping || was[x.Worker] == PhaseKilled
		if !x.Cut.Unknown || stopped {
			want = &x
		}
	}
	told := 0
	for _, c := range out {
		r, ok := c.(Record)
		if ok && want != nil && want.Cut.Unknown && r.Entry.What == "crash" && r.Entry.Worker == want.Worker {
			want = nil // that it crashed says enough
		}
		if !ok || r.Entry.Cut == (Cut{}) {
			continue
		}
		if told++; want == nil || r.Entry.Worker != want.Worker || r.Entry.Cut != want.Cut || r.Entry.Code != Failed || r.Entry.Reason == "" {
			w.fail("it tells of a cut that was not: %+v", r.Entry)
		}
	}
	if want != nil && told != 1 {
		w.fail("worker %d took %+v with it, and that is told %d times", want.Worker, want.Cut, told)
	}
}
