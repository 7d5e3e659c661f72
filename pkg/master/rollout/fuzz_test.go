package rollout

import (
	"math/rand/v2"
	"testing"
	"time"
)

// FuzzMachine reads bytes as facts and requests in any order, true or not. The
// machine's own invariants panic; besides, no request may be answered twice and
// a stop must lead to the end.
func FuzzMachine(f *testing.F) {
	f.Add([]byte{1, 2, 3, 4, 5, 6, 7, 8})
	f.Add([]byte("\x14\x00\x1b\x01\x10\x01\x12\x01\x13\x01\x13\x01\x1b\x02\x15\x01\x17\x01\x01\x01"))
	f.Fuzz(func(t *testing.T, data []byte) {
		data = data[:min(len(data), 2000)]
		set := Settings{Processes: 2, Beats: true, Probe: true, Bake: time.Second, UnavailableAfter: time.Second, DrainTimeout: time.Second}
		if len(data) > 0 {
			set.SlotPerWorker, set.SurgeOne, set.Warmup, set.Handover = data[0]&1 != 0, data[0]&2 != 0, data[0]&4 != 0, data[0]&8 == 0
			set.Processes = 1 + int(data[0]>>6)
			if data[0]&16 != 0 {
				set.Steps = []Step{{Weight: 100, Hold: time.Second}, {Weight: 2500}, {Weight: 5000, Hold: time.Minute}}
				set.Sticky, set.SkipBaked = data[0]&32 != 0, data[0]&64 != 0
				set.MaxWait, set.WhenInconclusive = 5*time.Second, []Inconclusive{InconclusivePause, InconclusivePromote, InconclusiveRollback}[data[0]%3]
			}
		}
		m := New(Options{Slots: 8, Rand: rand.New(rand.NewPCG(1, 1))})
		now, next := epoch, Request(0)
		waiting := map[Request]bool{}
		var last []Command // what the newest commands were, so that answers can fit
		step := func(ev Event) {
			for _, c := range m.Step(now, ev) {
				switch c := c.(type) {
				case Reply:
					if !waiting[c.Req] {
						t.Fatalf("request %d answered twice", c.Req)
					}
					delete(waiting, c.Req)
				case Report, Record, Retain, Hook:
				default:
					last = append(last, c)
				}
			}
			if len(last) > 32 {
				last = last[len(last)-32:]
			}
		}
		ask := func() Request { next++; waiting[next] = true; return next }
		step(Booted{Settings: set})
		for i := 1; i+1 < len(data); i += 2 {
			op, arg := data[i], data[i+1]
			w := Worker(arg % 16)
			switch op % 29 {
			case 0:
				step(ReloadAsked{Req: ask(), Origin: Origin(1 + arg%4), Settings: set, Until: Until(arg >> 7), Replace: arg&8 != 0,
					Confirm: time.Duration(arg>>5) * time.Second})
			case 1:
				step(RollbackAsked{Req: ask(), Origin: Person})
			case 2:
				step(PromoteAsked{Req: ask(), All: arg&1 != 0})
			case 3:
				step(AbortAsked{Req: ask()})
			case 4:
				step(ScaleAsked{Req: ask(), Processes: int(arg % 5)})
			case 5:
				step(HoldAsked{Req: ask(), Why: "fuzz"})
			case 6:
				step(UnholdAsked{Req: ask()})
			case 7:
				step(Exited{Worker: w, Detail: "exit status 1"})
			case 8:
				step(Ready{Worker: w})
			case 9:
				step(Probed{Worker: w, OK: arg&16 == 0, Detail: "no"})
			case 10:
				step(Accepting{Worker: w})
			case 11:
				step(Steered{Seq: uint64(arg)})
			case 12:
				step(SteerFailed{Seq: uint64(arg), Reason: "no"})
			case 13:
				step(SaveFailed{Seq: uint64(arg), Reason: "full"})
			case 14:
				step(Pressed{Detail: "memory"})
			case 15:
				now = now.Add(time.Duration(arg) * 20 * time.Millisecond)
				step(Ticked{})
			case 16:
				if at := m.Next(); at.After(now) {
					now = at
				}
				step(Ticked{})
			case 17:
				now = now.Add(time.Duration(arg) * time.Minute)
				step(Ticked{})
			case 18:
				step(PauseAsked{Req: ask()})
			case 19:
				step(ResumeAsked{Req: ask()})
			case 20:
				step(Judged{Rollout: Rollout(arg), Why: "does worse"})
			case 21:
				step(Passed{Rollout: Rollout(arg)})
			case 22:
				step(Incomparable{Rollout: Rollout(arg), Why: "a worker does not count"})
			default: // answer one of the newest commands properly
				if n := len(last); n > 0 {
					for _, ev := range properly(last[n-1-int(arg)%n]) {
						step(ev)
					}
				}
			}
		}
		step(StopAsked{Req: ask(), Now: true})
		for w := Worker(1); w <= m.nextWorker; w++ {
			step(Exited{Worker: w, Detail: "signal: killed"})
		}
		if len(waiting) > 0 || !m.exited {
			t.Fatalf("stopped, exited %v, and %d requests wait", m.exited, len(waiting))
		}
	})
}

// properly is the answer that a command hopes for.
func properly(c Command) []Event {
	switch c := c.(type) {
	case Prepare:
		v := version("v1")
		if c.Version != nil {
			v = *c.Version
		} else if c.Rollout%3 != 0 {
			v = version("v2")
		}
		return []Event{Prepared{Rollout: c.Rollout, Version: v}}
	case Start:
		return []Event{Started{Worker: c.Worker}, Ready{Worker: c.Worker}}
	case Probe:
		return []Event{Probed{Worker: c.Worker, OK: true}}
	case Warm:
		return []Event{Warmed{Worker: c.Worker, OK: true}}
	case Activate:
		return []Event{Accepting(c)}
	case Steer:
		return []Event{Steered{Seq: c.Seq}}
	case Drain:
		return []Event{Drained{Worker: c.Worker}, Exited{Worker: c.Worker}}
	case Terminate:
		return []Event{Exited{Worker: c.Worker}}
	case Kill:
		return []Event{Exited{Worker: c.Worker}}
	case Quarantine:
		return []Event{SlotQuiet(c)}
	case Save:
		return []Event{Saved{Seq: c.Seq}}
	}
	return nil
}
