package rollout

import "strconv"

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
	vacant     bool // manned by nobody any more; quarantined once nothing is steered to it
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
	if m.stop != nil {
		return
	}
	for i := range m.slots {
		s := &m.slots[i]
		if s.state == slotManned && s.vacant && !m.steersTo(Slot(i)) {
			s.state, s.vacant = slotQuarantine, false
			m.emit(Quarantine{Slot: Slot(i)})
		}
	}
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
