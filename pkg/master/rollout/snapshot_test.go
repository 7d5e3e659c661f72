package rollout

import (
	"encoding/json"
	"math/rand/v2"
	"reflect"
	"testing"
)

// bakingSnapshot is of a machine with a bake, a parked generation and a steering.
func bakingSnapshot(t *testing.T) Snapshot {
	s := newStory(t)
	s.play([]byte("settings processes=2 slotperworker=true\ngiven start v1\ngiven play 6m\n1s reload v2\nplay 1m\n"))
	snap := s.m.Snapshot()
	if snap.Bake == nil || snap.Parked == 0 {
		t.Fatal("nothing bakes")
	}
	return snap
}

// canarySnapshot is of a machine in the second step of a canary.
func canarySnapshot(t *testing.T) Snapshot {
	s := newStory(t)
	s.play([]byte("settings steps=1%:10s,10%:1m\ngiven start v1\ngiven play 6m\n1s reload v2\nplay 30s\n"))
	snap := s.m.Snapshot()
	if snap.Try == nil || snap.Try.Stage != StageCanary || snap.Try.Step != 2 {
		t.Fatalf("no second step: %+v", snap.Try)
	}
	return snap
}

// TestSnapshotSurvivesJSON: in the simulation too, a snapshot read back is the same.
func TestSnapshotSurvivesJSON(t *testing.T) {
	s := bakingSnapshot(t)
	text, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	var back Snapshot
	if err := json.Unmarshal(text, &back); err != nil {
		t.Fatal(err)
	}
	again, err := json.Marshal(back)
	if err != nil || string(again) != string(text) || !reflect.DeepEqual(s.Generations, back.Generations) {
		t.Errorf("%v: a snapshot was\n%s\nand is\n%s", err, text, again)
	}
}

// TestSnapshotDamaged: what does not fit together is refused.
func TestSnapshotDamaged(t *testing.T) {
	for name, damage := range map[string]func(*Snapshot){
		"a generation twice":          func(s *Snapshot) { s.Generations[1].ID = s.Generations[0].ID },
		"a worker twice":              func(s *Snapshot) { s.Generations[1].Workers[0].ID = s.Generations[0].Workers[0].ID },
		"a number to come":            func(s *Snapshot) { s.NextWorker = 1 },
		"a seat of nobody":            func(s *Snapshot) { s.Generations[0].Seats[0].Worker = 99 },
		"a seat of another's":         func(s *Snapshot) { s.Generations[0].Seats[0].Worker = s.Generations[1].Workers[0].ID },
		"two seats of one":            func(s *Snapshot) { s.Generations[0].Seats[1].Worker = s.Generations[0].Seats[0].Worker },
		"nothing active, and a bake":  func(s *Snapshot) { s.Active = 0 },
		"an active one unknown":       func(s *Snapshot) { s.Active = 99 },
		"one active and parked":       func(s *Snapshot) { s.Parked = s.Active },
		"a phase unknown":             func(s *Snapshot) { s.Generations[0].Workers[0].Phase = "asleep" },
		"a generation's phase":        func(s *Snapshot) { s.Generations[0].Phase = "asleep" },
		"a slot below zero":           func(s *Snapshot) { s.Slots[0].Slot = -5 },
		"a slot without end":          func(s *Snapshot) { s.Slots[0].Slot = 1 << 40 },
		"a steering to no slot":       func(s *Snapshot) { s.Have[0].Slot = 77 },
		"an asked one to no slot":     func(s *Snapshot) { s.Asked = [][]Share{{{Slot: 77, Weight: 1}}} },
		"a worker on no slot":         func(s *Snapshot) { s.Generations[0].Workers[0].Slot = 77 },
		"a parked one beside no bake": func(s *Snapshot) { s.Bake = nil },
	} {
		t.Run(name, func(t *testing.T) {
			s := bakingSnapshot(t)
			damage(&s)
			if err := CheckSnapshot(s); err == nil {
				t.Error("it is not refused")
			}
		})
	}
	for name, damage := range map[string]func(*SnapAttempt){
		"a step that is none":       func(a *SnapAttempt) { a.Step = 4 },
		"a step below zero":         func(a *SnapAttempt) { a.Step = -1 },
		"a canary before its steps": func(a *SnapAttempt) { a.Step = 0 },
		"a canary after them":       func(a *SnapAttempt) { a.Step = 3 },
		"a canary without steps":    func(a *SnapAttempt) { a.Settings.Steps = nil },
		"a share of nothing":        func(a *SnapAttempt) { a.Settings.Steps[0].Weight = 0 },
		"a share of all":            func(a *SnapAttempt) { a.Settings.Steps[0].Weight = Whole },
	} {
		t.Run(name, func(t *testing.T) {
			s := canarySnapshot(t)
			for i := range s.Generations {
				if a := &s.Generations[i].Made; a.ID == s.Try.ID {
					damage(a)
				}
			}
			if err := CheckSnapshot(s); err == nil {
				t.Error("it is not refused")
			}
		})
	}
	for _, s := range []Snapshot{bakingSnapshot(t), canarySnapshot(t)} {
		if err := CheckSnapshot(s); err != nil {
			t.Error(err)
		}
	}
}

// FuzzSnapshot: what is not refused can be gone on from without a panic.
func FuzzSnapshot(f *testing.F) {
	text, _ := json.Marshal(bakingSnapshot(&testing.T{}))
	f.Add(text)
	text, _ = json.Marshal(canarySnapshot(&testing.T{}))
	f.Add(text)
	f.Fuzz(func(t *testing.T, text []byte) {
		var s Snapshot
		if json.Unmarshal(text, &s) != nil || CheckSnapshot(s) != nil {
			return
		}
		alive := map[Worker]int{}
		for _, g := range s.Generations {
			for _, w := range g.Workers {
				alive[w.ID] = 1
			}
		}
		m := New(Options{Slots: 8, Rand: rand.New(rand.NewPCG(1, 1)), Violated: func(string) {}})
		m.Step(epoch, Booted{Found: &Found{Snapshot: s, Alive: alive}})
		m.Step(m.Next(), Ticked{})
	})
}
