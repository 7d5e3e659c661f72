package rollout

import (
	"fmt"
	"slices"
	"time"
)

// violate tells of an invariant of the machine's own that does not hold. In
// production that is logged and the service goes on; in tests it panics.
func (m *Machine) violate(format string, args ...any) {
	what := fmt.Sprintf(format, args...)
	if m.options.Violated == nil {
		panic("rollout: " + what)
	}
	m.options.Violated(what)
}

// mustFollow is what every become… asserts.
func mustFollow[T ~string](m *Machine, table map[T][]T, from, to T, of named) {
	if !slices.Contains(table[to], from) {
		m.violate("%s cannot become %s from %q", of.called(), to, string(from))
	}
}

// checkShares: whoever is steered to has passed its checks and accepts.
func (m *Machine) checkShares(shares []Share) {
	for _, s := range shares {
		ok := false
		for _, g := range m.generations {
			for _, w := range g.workers {
				ok = ok || w.slot == s.Slot && w.phase == PhaseActive
			}
		}
		ok = ok || m.keepsWaiting() && inShares(m.try.queues, s.Slot)
		if !ok || m.slots[s.Slot].state != slotManned {
			m.violate("slot %d gets traffic, but nobody who has passed the checks accepts there", s.Slot)
		}
		if s.Weight == 0 {
			m.violate("slot %d has no weight", s.Slot)
		}
	}
}

// check holds after every step, in production too.
func (m *Machine) check() {
	if m.exited {
		if len(m.requests) > 0 {
			m.violate("the master ends and %d requests are not answered", len(m.requests))
		}
		return
	}
	m.checkServed()
	m.checkRead()
	m.checkOwners()
	m.checkRoles()
	m.checkGiving()
	m.checkCompared()
	m.checkWait()
	m.checkClosing()
	for _, g := range m.generations {
		if !(g.phase == PhaseStarting && g.made.stepping() && g.deadline.IsZero()) { // each step has its own
			m.checkDeadline(g, g.phase, g.deadline, g.first, g.settings.DrainTimeout == 0)
		}
		for _, w := range g.workers {
			if w.triggered && w.beatDue.IsZero() && w.phase != PhaseStopping && w.phase != PhaseKilled && w.exitBy.IsZero() {
				m.violate("%s has triggered its watchdog, is %s, and nobody ends it", w.called(), w.phase)
			}
			m.checkDeadline(w, w.phase, w.deadline, w.first,
				g.settings.DrainTimeout == 0 || m.stop != nil && m.stop.patient)
			if m.validSlot(w.slot) && (m.slots[w.slot].state != slotManned || m.slots[w.slot].generation != g.id) {
				m.violate("%s is on slot %d, which is %s", w.called(), w.slot, m.slots[w.slot].state)
			}
		}
	}
	if a := m.try; a != nil && (a.deadline.IsZero() && a.goneBy.IsZero() || !a.deadline.Equal(a.first)) {
		if !(a.stage == StageSave && a.unsaved) && !a.waitsForPerson() {
			m.violate("%s is at stage %s with deadline %v, first %v", a.called(), a.stage, a.deadline, a.first)
		}
	}
	if b := m.bake; b != nil && (b.deadline.IsZero() || !b.deadline.Equal(b.first)) {
		m.violate("the bake of %s has deadline %v, first %v", b.gen.called(), b.deadline, b.first)
	}
}

// checkServed: once somebody has served, new connections go to a live,
// accepting worker at every instant, unless every one has died.
func (m *Machine) checkServed() {
	if !m.served || m.ending() || m.serving() || !m.steering.due.IsZero() || m.keepsWaiting() {
		return // or the kernel refuses it, and it is about to be tried again
	}
	for _, g := range m.generations {
		if m.candidate(g) && !g.touched || g.leaving && !g.touched {
			continue
		}
		for _, w := range g.workers {
			if w.accepts() {
				m.violate("%s accepts, and nobody alive is steered to", w.called())
				return
			}
		}
	}
}

// checkRead: clients never wait without end where nobody takes them. Whoever is
// steered to accepts, or is awaited for a limited time; a slot that was steered to is
// read, or the master reads it, or it is known when.
func (m *Machine) checkRead() {
	st := &m.steering
	if m.ending() && len(st.asked) > 0 && st.due.IsZero() {
		m.violate("masterd is stopping and %d slots get traffic", len(st.asked))
	}
	for _, x := range st.asked {
		if now, _, _ := m.reads(x.Slot); !now && st.due.IsZero() && m.nobody.IsZero() && !m.ending() {
			m.violate("slot %d gets traffic, nobody accepts there, and nobody is waited for", x.Slot)
		}
	}
	for i, s := range m.slots {
		if now, holds, _ := m.reads(Slot(i)); s.state == slotManned && s.used && !now && !holds && !s.relieved && s.due.IsZero() {
			m.violate("nobody reads slot %d, and the master never will", i)
		}
	}
}

// checkOwners: every request that is not answered is on somebody's list.
func (m *Machine) checkOwners() {
	n := 0
	owns := func(r Request) {
		if r == 0 {
			return
		}
		n++
		if _, ok := m.requests[r]; !ok {
			m.violate("request %d was answered and is still waited for", r)
		}
	}
	if m.try != nil {
		owns(m.try.req)
	}
	if m.bake != nil {
		owns(m.bake.made.req)
	}
	if m.verdict != nil {
		owns(m.verdict.a.req)
	}
	if m.scale != nil {
		owns(m.scale.req)
	}
	if m.stop != nil {
		for _, r := range m.stop.requests {
			owns(r)
		}
	}
	if m.automatic.delayed != nil {
		owns(m.automatic.delayed.Req)
	}
	for _, w := range m.steering.waiters {
		owns(w.reply.Req)
	}
	if n != len(m.requests) {
		m.violate("%d requests are not answered, %d will be", len(m.requests), n)
	}
}

// checkRoles: who may have traffic, and who is beside whom.
func (m *Machine) checkRoles() {
	if m.parked != nil && (m.parked == m.active || m.parked.phase != PhaseParked || m.bake == nil && !m.ending()) {
		m.violate("parked %s is %s beside bake %v", m.parked.called(), m.parked.phase, m.bake != nil)
	}
	if m.active != nil && m.active.phase != PhaseActive && !m.ending() {
		m.violate("active %s is %s", m.active.called(), m.active.phase)
	}
	if m.bake != nil && m.bake.gen != m.active {
		m.violate("%s bakes and is not active", m.bake.gen.called())
	}
	for _, g := range m.generations {
		if g.leaving && g.clearing.IsZero() && !m.ending() {
			for _, s := range g.seats {
				if !s.due.IsZero() {
					m.violate("%s leaves, and a replacement is due", g.called())
				}
			}
		}
		if g.traffic && g != m.active && !m.candidate(g) {
			m.violate("%s is meant to have traffic and is neither active nor a candidate", g.called())
		}
	}
}

type named interface{ called() string }

// checkDeadline: every phase but active and parked has a deadline and keeps
// its first one. Drains may have none.
func (m *Machine) checkDeadline(of named, p Phase, deadline, first time.Time, drainsLong bool) {
	if !deadline.Equal(first) {
		m.violate("%s is %s and its deadline has moved from %v to %v", of.called(), p, first, deadline)
	}
	switch p {
	case PhaseActive, PhaseParked:
	case PhaseDraining:
		if deadline.IsZero() && !drainsLong {
			m.violate("%s is %s without a deadline", of.called(), p)
		}
	default:
		if deadline.IsZero() {
			m.violate("%s is %s without a deadline", of.called(), p)
		}
	}
}
