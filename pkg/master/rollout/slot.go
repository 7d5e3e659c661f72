package rollout

import (
	"strconv"
	"time"
)

// noSlot stands for: none assigned.
const noSlot Slot = -1

type slotState uint8

const (
	// slotFree: nobody has it and nothing can arrive there. The only state
	// from which a slot is given away.
	slotFree slotState = iota
	// slotManned: a generation has it. It stays so while a replacement is
	// awaited: its queue waits too.
	slotManned
	// slotQuarantine: its generation is gone; what was on its way may still
	// arrive there. Ends with SlotQuiet and with nothing else.
	slotQuarantine
)

// slot is one index of the pool.
type slot struct {
	state      slotState
	generation Generation
	vacant     bool // nobody is started on it any more; quarantined once nothing is steered to it

	// A queue that is held open and that nobody reads is the worst answer: its clients
	// hang. What follows is about that, for a slot that is assigned.
	used     bool      // it was steered to: somebody may wait there
	unread   time.Time // since when nobody takes what waits there; zero: somebody does
	due      time.Time // when the master is to take it; zero: never as things are
	relieved bool      // it does
	undone   uint64    // by a Relieve: no Steer up to this one steers here any more
}

func (s slotState) String() string {
	switch s {
	case slotManned:
		return "manned"
	case slotQuarantine:
		return "quarantine"
	}
	return "free"
}

func (m *Machine) validSlot(s Slot) bool { return s >= 0 && int(s) < len(m.slots) }

// take gives a generation the first free slot, or noSlot.
func (m *Machine) take(g *generation) Slot {
	for i := range m.slots {
		if m.slots[i].state == slotFree {
			m.slots[i] = slot{state: slotManned, generation: g.id}
			return Slot(i)
		}
	}
	return noSlot
}

// vacate: nobody will man this slot for its generation again.
func (m *Machine) vacate(s Slot) {
	if m.validSlot(s) && m.slots[s].state == slotManned {
		m.slots[s].vacant = true
	}
}

// tidySlots quarantines vacant slots. Not before no steering that may be in
// force names them: a slot that is quiet is given away, and its next owner is a
// candidate that must not find users there.
func (m *Machine) tidySlots() {
	for i := range m.slots {
		s := &m.slots[i]
		if s.state == slotManned && s.vacant && !m.steersTo(Slot(i)) && !m.peopled(Slot(i)) {
			s.state, s.vacant = slotQuarantine, false
			m.emit(Quarantine{Slot: Slot(i)})
		}
	}
}

// tendQueues has the master take what waits in a slot that nobody reads: at once where
// nobody is to come, as where the last worker drains, or the service stops; and after
// the time that clients may be kept waiting where a replacement is awaited.
func (m *Machine) tendQueues() {
	for i := range m.slots {
		s := &m.slots[i]
		s.due = time.Time{}
		if s.state != slotManned || !s.used {
			continue
		}
		now, holds, soon := m.reads(Slot(i))
		if now {
			s.unread, s.relieved = time.Time{}, false
			continue
		}
		if s.unread.IsZero() {
			s.unread = m.now
		}
		if s.relieved || holds {
			continue
		}
		s.due = m.now // not since it is unread: a late step may have moved that ahead
		if soon && !m.ending() {
			s.due = s.unread.Add(m.settings.UnavailableAfter)
		}
		if m.past(s.due) {
			s.due, s.relieved, s.undone = time.Time{}, true, m.steering.seq
			m.emit(Relieve{Slot: Slot(i)})
		}
	}
}

// reads tells whether somebody takes what arrives in a slot now; whether a process
// that is not known to be ready holds it, from which nothing may be taken, as its
// checks come that way; and whether somebody is to come.
func (m *Machine) reads(slot Slot) (now, holds, soon bool) {
	for _, g := range m.generations {
		sdk := g.settings.Beats
		for _, w := range g.workers {
			if w.slot != slot {
				continue
			}
			switch w.phase {
			case PhaseActivating, PhaseActive, PhaseParked:
				now = true
			case PhaseDraining: // the SDK has closed its copy, others accept until they are stopped
				now = now || !sdk
			case PhaseStopping, PhaseKilled:
			default:
				holds, soon = holds || !sdk, true
			}
		}
		for _, s := range g.seats {
			soon = soon || s.slot == slot && !s.due.IsZero()
		}
		if m.slots[slot].generation == g.id && m.steersTo(slot) { // they wait for who is started next
			soon = soon || g.aside || g.queued || m.makesWay() && m.candidate(g)
		}
	}
	return now, holds, soon
}

func (m *Machine) slotQuiet(s Slot) { m.slots[s] = slot{} }

func (m *Machine) grow(n int) {
	for len(m.slots) < n {
		m.slots = append(m.slots, slot{})
	}
}

// cramped: a generation that needs so many slots could not be followed by its like,
// as the next one needs its own beside it. The master makes the pool larger before it
// asks for one.
func (m *Machine) cramped(need int) bool { return 2*need > len(m.slots) }

func (m *Machine) crampedBy(need int) string {
	return "it needs " + number(need, "slot") + ", and as many again for its successor, and the pool has " + strconv.Itoa(len(m.slots))
}

// slotsIn counts the slots in a state.
func (m *Machine) slotsIn(state slotState) int {
	n := 0
	for _, s := range m.slots {
		if s.state == state {
			n++
		}
	}
	return n
}

// slotsComing tells whether slots will become free by themselves: some are in
// quarantine, or belong to generations that have been told to end now.
func (m *Machine) slotsComing() bool {
	for _, s := range m.slots {
		if s.state == slotQuarantine || s.vacant {
			return true
		}
	}
	for _, g := range m.generations {
		if g.phase == PhaseStopping || g.phase == PhaseKilled {
			return true
		}
	}
	return false
}
