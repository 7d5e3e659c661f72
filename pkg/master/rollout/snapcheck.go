package rollout

import (
	"errors"
	"fmt"
)

// maxSnapSlot is the highest slot that is believed. A damaged file must not cost
// all memory.
const maxSnapSlot = 1 << 16

// CheckSnapshot says why a machine could not go on from a snapshot.
func CheckSnapshot(s Snapshot) error {
	slots := map[Slot]bool{}
	for _, x := range s.Slots {
		if x.Slot < 0 || x.Slot > maxSnapSlot || slots[x.Slot] {
			return fmt.Errorf("slot %d is there twice, or is none", x.Slot)
		}
		slots[x.Slot] = true
	}
	var attempts []SnapAttempt
	if s.Try != nil {
		attempts = append(attempts, *s.Try)
	}
	phases := map[Generation]Phase{}
	workers := map[Worker]bool{}
	for _, g := range s.Generations {
		if g.ID == 0 || phases[g.ID] != "" {
			return fmt.Errorf("generation %d is there twice, or has no number", g.ID)
		}
		if err := checkSnapGeneration(g, slots); err != nil {
			return fmt.Errorf("generation %d: %w", g.ID, err)
		}
		phases[g.ID], attempts = g.Phase, append(attempts, g.Made)
		for _, w := range g.Workers {
			if w.ID == 0 || workers[w.ID] || w.ID > s.NextWorker {
				return fmt.Errorf("worker %d is there twice, or has no number", w.ID)
			}
			workers[w.ID] = true
		}
	}
	for _, shares := range append([][]Share{s.Have}, s.Asked...) {
		for _, x := range shares {
			if !slots[x.Slot] {
				return fmt.Errorf("slot %d has traffic and belongs to nobody", x.Slot)
			}
		}
	}
	for _, a := range attempts {
		if err := checkSteps(a); err != nil {
			return fmt.Errorf("rollout %d: %w", a.ID, err)
		}
	}
	switch {
	case s.Active != 0 && phases[s.Active] == "":
		return fmt.Errorf("generation %d is active and is not there", s.Active)
	case s.Parked != 0 && (phases[s.Parked] == "" || s.Parked == s.Active):
		return fmt.Errorf("generation %d is parked and is not there, or is active too", s.Parked)
	case s.Try != nil && s.Try.Gen != 0 && phases[s.Try.Gen] != PhaseStarting:
		return fmt.Errorf("the rollout under way is of generation %d, which is not there or serves", s.Try.Gen)
	case s.Bake != nil && s.Active == 0:
		return errors.New("something bakes and nothing is active")
	case s.Bake == nil && s.Parked != 0 && s.Stop == nil:
		return fmt.Errorf("generation %d is parked and nothing bakes", s.Parked)
	}
	return nil
}

// checkSteps: a share is a part of all connections, and a rollout is at one of its steps.
func checkSteps(a SnapAttempt) error {
	for _, step := range a.Settings.Steps {
		if step.Weight == 0 || step.Weight >= Whole {
			return fmt.Errorf("a step has %d of %d parts", step.Weight, Whole)
		}
	}
	if n := len(a.Settings.Steps); a.Step < 0 || a.Step > n+1 || a.Stage == StageCanary && (a.Step == 0 || a.Step > n) {
		return fmt.Errorf("it is at step %d of %d, stage %s", a.Step, n, a.Stage)
	}
	if last := a.Stage == StageCanary && a.Step == len(a.Settings.Steps); a.Waits && (!last || a.Settings.MaxWait <= 0) {
		return fmt.Errorf("it waits for a verdict at step %d, for %s", a.Step, a.Settings.MaxWait)
	}
	return nil
}

func checkSnapGeneration(g SnapGeneration, slots map[Slot]bool) error {
	known := func(s Slot) bool { return s == noSlot || slots[s] }
	if generationAfter[g.Phase] == nil || !known(g.Slot) {
		return fmt.Errorf("it is %q, on slot %d", string(g.Phase), g.Slot)
	}
	vacant := map[Worker]bool{} // who has no seat yet
	for _, w := range g.Workers {
		if workerAfter[w.Phase] == nil || !slots[w.Slot] {
			return fmt.Errorf("worker %d is %q, on slot %d", w.ID, string(w.Phase), w.Slot)
		}
		vacant[w.ID] = true
	}
	for _, x := range g.Seats {
		if !known(x.Slot) || x.Worker != 0 && !vacant[x.Worker] {
			return fmt.Errorf("worker %d has a seat on slot %d, and is not there or has another", x.Worker, x.Slot)
		}
		delete(vacant, x.Worker)
	}
	return nil
}
