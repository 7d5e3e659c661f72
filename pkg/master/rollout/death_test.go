package rollout

import (
	"encoding/json"
	"math/rand/v2"
	"slices"
	"time"
)

// The master of the simulation dies: after what it leaves was written, or before
// that, with none, some or all of a step's commands carried out. Processes live
// on, or die while nobody looks, and another master goes on from what was left.

// died is a moment in the history that a failure prints.
type died struct{ carriedOut int }

func (died) event() {}

// reunion is the world's own event: a worker has found the new master.
type reunion struct{ w Worker }

func (reunion) event() {}

// leave writes down what the next master needs, if that may have changed.
func (w *world) leave(ev Event, out []Command) {
	switch ev.(type) {
	case Beat, Probed, Ticked:
		if len(out) == 0 {
			return
		}
	}
	s := w.m.Snapshot()
	w.left = &s
}

// dies carries out a part of a step, or nothing, and puts another master in the
// place of this one.
func (w *world) dies(ev Event, out []Command) {
	done := 0
	if w.r.IntN(4) > 0 {
		w.leave(ev, out)
		done = w.r.IntN(len(out) + 1)
	}
	for _, c := range out[:done] {
		w.obey(c)
	}
	w.remember(moment{w.now, died{done}, nil})
	if w.exited {
		return
	}
	away := []time.Duration{0, 200 * time.Millisecond, 5 * time.Second, time.Minute}[w.r.IntN(4)]
	w.now = w.now.Add(away)
	w.lose()
	if w.left == nil {
		w.reboot() // it had only just begun
		return
	}
	w.slack += w.now.Sub(w.left.At) + 4*w.set.BeatInterval + w.set.StartTimeout
	w.succeed(w.onDisk(*w.left))
}

// onDisk is what comes back of a snapshot that was written.
func (w *world) onDisk(s Snapshot) (back Snapshot) {
	text, err := json.Marshal(s)
	if err == nil {
		err = json.Unmarshal(text, &back)
	}
	if err == nil {
		err = CheckSnapshot(back)
	}
	if err != nil {
		w.fail("what was left cannot be read: %v", err)
	}
	return back
}

// lose: what was on its way to the dead master is lost, and who waited for its
// answer waits no more.
func (w *world) lose() {
	w.queue = slices.DeleteFunc(w.queue, func(it item) bool {
		switch it.ev.(type) {
		case heartbeat, fate, lastBreath, reunion:
			return false
		}
		return true
	})
	w.queue.init()
	clear(w.requests)
	clear(w.unwell) // it may be told again
	w.asks, w.heard, w.failedU = nil, 0, time.Time{}
}

func (w *world) succeed(left Snapshot) {
	found := &Found{Snapshot: left, Alive: map[Worker]int{}}
	phases := map[Worker]Phase{}
	for _, g := range left.Generations {
		for _, x := range g.Workers {
			phases[x.ID] = x.Phase
			if p := w.procs[x.ID]; p != nil {
				p.every = x.Every
			}
		}
	}
	for _, p := range slices.Clone(w.live) {
		switch phase, known := phases[p.id]; {
		case !p.alive || !known: // nobody whom the machine does not know is left alone
			p.alive = false
			w.bury(p.id)
		default:
			found.Alive[p.id] = int(p.id)
			p.gives, p.split = nil, nil
			shares := phase == PhaseActive && p.gen == left.Active && left.Try != nil && left.Try.attempt().stepping()
			if w.set.Beats && (phase == PhaseParked || phase == PhaseDraining || shares) {
				p.gives = []Worker{0} // to somebody: it is told again
			}
			switch phase {
			case PhaseStarting, PhaseChecking, PhaseWarming, PhaseActivating:
				p.accepts = false // should it, the one that knew has died
			}
			w.in(w.soon()*20, reunion{p.id})
		}
	}
	w.known = left.Have
	w.stopping = left.Stop != nil // one that was not written down is forgotten
	w.compared = Compare{}
	w.m = New(Options{Slots: w.slots, Rand: rand.New(rand.NewPCG(w.r.Uint64(), 1))})
	w.resuming = true
	w.step(Booted{Settings: w.set, State: w.disk, Found: found})
	w.resuming = false
}

// retell is what the driver does with what workers have missed of being active or
// parked.
func (w *world) retell() {
	for _, p := range w.live {
		x := w.m.workers[p.id]
		if x == nil {
			w.fail("worker %d lives and the next master does not know it", p.id)
		}
		switch x.phase {
		case PhaseActive:
			if p.giver = false; p.split == nil {
				p.gives = nil
			}
		case PhaseParked, PhaseDraining:
			p.giver = true
		case PhaseStarting:
			p.ready = p.ready || !w.set.tellsReady()
		}
	}
}

// reunite: a worker says who it is.
func (w *world) reunite(p *proc) {
	if !p.alive || p.hung || p.leaving || !w.set.Beats {
		return
	}
	if p.up {
		w.post(w.soon(), Ready{Worker: p.id}, false)
	}
	if p.on {
		w.post(w.soon(), Accepting{Worker: p.id}, false)
	}
}
