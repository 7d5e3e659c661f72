package rollout

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"runtime"
	"runtime/debug"
	"testing"
	"time"
)

var (
	simSteps = flag.Int("sim.steps", 200_000, "events in the simulation")
	simFrom  = flag.Uint64("sim.from", 1, "the first episode's seed")
	simSeed  = flag.Uint64("sim.seed", 0, "play this episode only")
)

const episode = 2500 // events before things are left to settle

// TestSimulation lets seeded worlds loose on the machine, episode by episode:
// bad versions, crashes, hangs, facts that come late, twice or never, a full
// disk, a steering that fails, a clock that jumps, and people who ask for
// anything at any time. After every event the world is inspected; at the end of
// an episode the bad luck ends and everything has to settle.
func TestSimulation(t *testing.T) {
	if *simSeed != 0 {
		playEpisode(t, *simSeed)
		return
	}
	steps := 0
	for seed := *simFrom; steps < *simSteps && !t.Failed(); seed++ {
		steps += playEpisode(t, seed)
	}
	t.Logf("%d events", steps)
}

func playEpisode(t *testing.T, seed uint64) (steps int) {
	r := rand.New(rand.NewPCG(seed, 7))
	worst := []climate{
		{ask: 8},
		{badVersion: 300, drop: 3, twice: 20, crash: 2, hang: 10, late: 1, saveFails: 20, steerFails: 5, stuck: 20, ask: 10},
		{badVersion: 200, drop: 20, twice: 100, crash: 10, hang: 40, late: 2, saveFails: 100, steerFails: 50, stuck: 100, ask: 20},
		{badVersion: 100, twice: 100, crash: 3, saveFails: 1000, ask: 20},
		{badVersion: 500, crash: 30, late: 5, ask: 15},
		{badVersion: 100, ask: 30, dies: 20},
		{badVersion: 200, drop: 10, twice: 50, crash: 5, hang: 20, late: 1, saveFails: 50, steerFails: 20, stuck: 50, ask: 20, dies: 10},
	}[r.IntN(7)]
	var w *world
	defer func() {
		if e := recover(); e != nil {
			if x, bug := e.(runtime.Error); bug {
				e = fmt.Sprintf("%v\n%s", x, debug.Stack())
			}
			t.Errorf("seed %d, after %d events: %v\n%s\nplay it again: go test ./pkg/master/rollout -run TestSimulation -sim.seed=%d",
				seed, w.steps, e, w.tell(), seed)
			steps = w.steps
		}
	}()
	w = &world{r: r, kind: worst, now: epoch, requests: map[Request]string{}}
	w.settings()
	w.reboot()
	for w.steps < episode {
		w.run(episode - w.steps)
		if w.exited {
			w.reboot()
		}
	}
	if !w.stopping {
		w.settle()
	}
	w.end()
	return w.steps
}

// settle ends all bad luck and demands that everything comes to rest.
func (w *world) settle() {
	w.kind = climate{}
	w.outage = false
	w.goodFaith()
	if w.m.state.Hold == "" && w.m.active == nil && len(w.m.state.Kept) == 0 {
		w.nextVer++
	}
	until := w.now.Add(time.Hour)
	for w.now.Before(until) && !w.settled() {
		w.once()
		if w.steps%50 == 0 {
			w.goodFaith()
		}
	}
	if !w.settled() {
		w.fail("it does not settle: requests %v", w.requests)
	}
	st := w.m.Status()
	if !st.Serving {
		w.fail("settled and not serving")
	}
	if w.m.active.slot == noSlot && 2*len(w.m.active.seats) > w.slots {
		w.fail("generation %d has %d workers, and a pool of %d slots leaves no room for the next one", st.Active, len(w.m.active.seats), w.slots)
	}
	for _, s := range w.steered {
		if w.owner[s.Slot] != st.Active {
			w.fail("settled, and slot %d of generation %d has traffic", s.Slot, w.owner[s.Slot])
		}
	}
}

// goodFaith: hung processes go on, sick ones recover.
func (w *world) goodFaith() {
	w.goOnWithSteps()
	for _, p := range w.procs {
		p.hung, p.sick, p.mute = false, false, false
		if p.alive && p.leaving {
			w.die(p, 0, "exit status 0")
		}
	}
}

func (w *world) settled() bool {
	st := w.m.Status()
	if len(w.requests) > 0 || st.Rollout != nil || len(st.Generations) != 1 || st.Active == 0 || !w.m.steering.confirmed() {
		return false
	}
	for _, s := range w.m.slots {
		if s.state == slotQuarantine {
			return false
		}
	}
	g := st.Generations[0]
	if len(g.Workers) != len(w.m.active.seats) {
		return false
	}
	for _, x := range g.Workers {
		if x.Phase != PhaseActive || !x.Healthy {
			return false
		}
	}
	return true
}

// end stops the master; it must end.
func (w *world) end() {
	if !w.stopping || w.r.IntN(2) == 0 {
		w.stopping = true
		w.step(StopAsked{Req: w.newRequest("the last stop"), By: "sim"})
	}
	for until := w.now.Add(10 * time.Minute); !w.exited; w.once() {
		if w.now.After(until) {
			w.fail("it does not stop")
		}
		if w.steps%50 == 0 {
			w.goodFaith()
		}
		if !w.stopping { // forgotten by a master that died
			w.stopping = true
			w.step(StopAsked{By: "sim"})
		}
	}
	if got := w.m.Step(w.now, ReloadAsked{Req: 1 << 40}); len(got) != 1 {
		w.fail("a request after the end gets %v", got)
	}
}

func (w *world) newRequest(what string) Request {
	w.nextReq++
	w.requests[w.nextReq] = what
	return w.nextReq
}

// request is what somebody asks for now.
func (w *world) request() Event {
	n := w.r.IntN(100)
	by := []string{"anna", "bo"}[w.r.IntN(2)]
	switch {
	case n < 45:
		s := w.set
		ev := ReloadAsked{Req: w.newRequest("reload"), By: by, Origin: Person, Settings: s, Token: fmt.Sprint("c", w.nextReq),
			Until: Until(w.r.IntN(2)), Replace: w.r.IntN(4) == 0}
		if w.r.IntN(6) == 0 {
			ev.Confirm = time.Duration(1+w.r.IntN(20)) * time.Second
		}
		if w.r.IntN(4) == 0 {
			ev.Origin, ev.By = Watch, ""
			ev.Digest = w.version(w.nextVer).Digest
		}
		return ev
	case n < 62:
		ev := RollbackAsked{Req: w.newRequest("rollback"), By: by, Origin: Person}
		if kept := w.m.Status().Kept; len(kept) > 0 && w.r.IntN(3) == 0 {
			v := kept[w.r.IntN(len(kept))]
			ev.Version, ev.To = v.ID, &v
		}
		return ev
	case n < 67:
		return PromoteAsked{Req: w.newRequest("promote"), By: by, All: w.r.IntN(4) == 0}
	case n < 69:
		return PauseAsked{Req: w.newRequest("pause"), By: by}
	case n < 71:
		return ResumeAsked{Req: w.newRequest("resume"), By: by}
	case n < 78:
		return AbortAsked{Req: w.newRequest("abort"), By: by}
	case n < 81:
		return HoldAsked{Req: w.newRequest("hold"), By: by, Why: "friday"}
	case n < 85:
		return UnholdAsked{Req: w.newRequest("unhold"), By: by}
	case n < 97:
		n := w.r.IntN(6)
		if w.r.IntN(4) == 0 {
			n += 12
			if w.r.IntN(2) == 0 {
				w.grown(n, w.set.SlotPerWorker || w.m.active != nil && w.m.active.slot == noSlot)
			}
		}
		return ScaleAsked{Req: w.newRequest("scale"), By: by, Processes: n}
	case n < 98:
		w.stopping = true
		return StopAsked{Req: w.newRequest("stop"), By: by, Patient: w.r.IntN(2) == 0, Now: w.r.IntN(4) == 0,
			Announce: time.Duration(w.r.IntN(3)*w.r.IntN(20)) * time.Second}
	}
	return Ticked{}
}
