package rollout

import (
	"slices"
	"time"
)

// steering is what new connections were told and what is known of it.
type steering struct {
	seq   uint64
	asked []Share // by the newest Steer; after its failure what is in force
	since uint64  // the Steer that asked is from
	sure  bool    // asked is, or is about to be, what is in force
	have  []Share // by the newest Steered
	began uint64  // the Steer that have is from
	known bool    // have is known
	out   []ask   // not answered yet, oldest first

	failures int
	failed   []Share   // what could not be had
	due      time.Time // when it is tried again
	deadline time.Time // for the newest answer
	waiters  []waiter
}

// ask is one Steer without an answer.
type ask struct {
	seq    uint64
	older  uint64 // an equal one before it, not answered either
	shares []Share
}

// waiter is an answer that is given once a Steer is in force.
type waiter struct {
	seq   uint64
	reply Reply
}

func (s *steering) outstanding(seq uint64) bool {
	for _, a := range s.out {
		if a.seq == seq || a.older == seq {
			return true
		}
	}
	return false
}

// confirmed: the newest Steer is in force, nothing is under way.
func (s *steering) confirmed() bool { return len(s.out) == 0 && s.sure && s.due.IsZero() }

// want is where new connections should go: to the workers of the generations
// that are meant to have traffic, each worker with the same part, or each generation with
// its own where a canary splits. Those that
// miss their beats are left out while others are there; those that should
// leave are taken back when nobody else is.
func (m *Machine) want() []Share {
	if m.keepsWaiting() {
		return m.try.queues
	}
	tiers := []func(*worker) bool{
		func(w *worker) bool { return w.gen.traffic && !w.leaving && !w.silent },
		func(w *worker) bool { return w.gen.traffic && !w.leaving },
		func(w *worker) bool { return w.gen.traffic },
		func(w *worker) bool { return w.gen == m.survivor() },
	}
	counts := make([]uint32, len(m.slots))
	var canary, others uint32 // workers
	for _, may := range tiers {
		for _, g := range m.generations {
			for _, w := range g.workers {
				if w.phase == PhaseActive && may(w) {
					counts[w.slot]++
					if m.candidate(g) {
						canary++
					} else {
						others++
					}
				}
			}
		}
		if canary+others > 0 {
			break
		}
	}
	split := m.try != nil && m.try.splits() && canary > 0 && others > 0
	var shares []Share
	var divisor uint32
	for i, n := range counts {
		if n == 0 {
			continue
		}
		x := Share{Slot: Slot(i), Weight: n}
		if split {
			// By parts of Whole, whatever the number of workers is on each side.
			weight := m.try.steps()[m.try.canary.step-1].Weight
			if x.Canary = m.slots[i].generation == m.try.gen.id; x.Canary {
				x.Weight *= weight * others
			} else {
				x.Weight *= (Whole - weight) * canary
			}
		}
		shares = append(shares, x)
		divisor = gcd(divisor, x.Weight)
	}
	for i := range shares {
		shares[i].Weight /= divisor
	}
	return shares
}

// survivor is the newest of those generations that nobody wanted any more and
// that still have somebody alive, should it come to that.
func (m *Machine) survivor() *generation {
	for i := len(m.generations) - 1; i >= 0; i-- {
		g := m.generations[i]
		if !g.leaving || !g.touched {
			continue
		}
		for _, w := range g.workers {
			if w.phase == PhaseActive {
				return g
			}
		}
	}
	return nil
}

func gcd(a, b uint32) uint32 {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

// resteer makes the steering what it should be. While nobody is alive it stays
// as it was: queues wait for the replacement, until the master answers itself.
func (m *Machine) resteer() {
	if m.resuming {
		return
	}
	s := &m.steering
	var want []Share
	if !m.ending() { // else nobody new is served, and the master says so
		want = m.want()
	}
	waits := m.keepsWaiting()
	m.somebody = len(want) > 0 && !waits
	switch {
	case m.somebody:
		m.down = false
	case waits && (m.down || m.settings.UnavailableAfter == 0):
		m.down, want = true, nil
	case !waits && !m.down && !m.ending():
		return
	}
	if s.sure && sameShares(want, s.asked) && !m.undone() {
		s.failures, s.due = 0, time.Time{}
		return
	}
	if !s.due.IsZero() && sameShares(want, s.failed) {
		return
	}
	m.steer(want)
}

// undone: a slot that new connections should go to was relieved after they were told
// so. To empty its queue the master has steered away from it.
func (m *Machine) undone() bool {
	for _, x := range m.steering.asked {
		if u := m.slots[x.Slot].undone; u != 0 && u >= m.steering.since {
			return true
		}
	}
	return false
}

func (m *Machine) steer(shares []Share) {
	m.endCompare()
	s := &m.steering
	s.seq++
	s.asked, s.since, s.sure, s.due = shares, s.seq, true, time.Time{}
	s.deadline = m.now.Add(m.settings.SteerTimeout)
	if n := len(s.out); n > 0 && sameShares(s.out[n-1].shares, shares) {
		s.out[n-1].older, s.out[n-1].seq = s.out[n-1].seq, s.seq
	} else {
		s.out = append(s.out, ask{seq: s.seq, shares: shares})
	}
	m.checkShares(shares)
	for _, x := range shares {
		m.slots[x.Slot].used = true
	}
	for _, g := range m.generations {
		if g.traffic {
			g.touched = true
		}
	}
	c := Steer{Seq: s.seq, Shares: append([]Share(nil), shares...)}
	if a := m.try; a != nil && slices.ContainsFunc(shares, func(x Share) bool { return x.Canary }) {
		c.Sticky = a.sticky()
	}
	m.emit(c)
}

func (m *Machine) steered(seq uint64) {
	s := &m.steering
	for len(s.out) > 0 && s.out[0].seq <= seq {
		if s.out[0].seq == seq {
			s.have, s.began, s.known = s.out[0].shares, seq, true
		}
		s.out = s.out[1:]
	}
	if len(s.out) > 0 && s.out[0].older == seq {
		s.have, s.began, s.known = s.out[0].shares, seq, true
	}
	if seq == s.seq {
		s.sure, s.asked, s.since = true, s.have, s.began
		s.failures, s.deadline, s.due = 0, time.Time{}, time.Time{}
	}
	if a := m.try; a != nil && a.stage == StageSteer && seq >= a.steerSeq {
		a.steered = true
	}
}

func (m *Machine) steerFailed(seq uint64, reason string) {
	s := &m.steering
	var failed []Share
	for i, a := range s.out {
		if a.seq == seq {
			failed = a.shares
			if a.older != 0 {
				s.out[i] = ask{seq: a.older, shares: a.shares} // which may be in force
			} else {
				s.out = append(s.out[:i:i], s.out[i+1:]...)
			}
			break
		}
	}
	if seq == s.seq {
		s.deadline = time.Time{}
		m.steerAgainLater(failed)
		s.asked, s.since, s.sure = s.have, s.began, s.known && len(s.out) == 0
	}
	for _, g := range m.generations {
		if g.phase == PhaseStarting && !m.steersToAny(g) {
			g.touched = false
		}
	}
	if a := m.try; a != nil && a.stage == StageDrain && seq == a.steerSeq && m.active.alive() {
		m.fail(StageDrain, nil, "new connections could not be kept waiting: "+reason)
		return
	}
	if a := m.try; a != nil && a.stage == StageSteer && seq >= a.steerSeq {
		m.fail(StageSteer, nil, "the traffic could not be moved to "+a.gen.called()+": "+reason)
	}
}

// steerAgainLater bounds the rate at which the same thing is tried.
func (m *Machine) steerAgainLater(failed []Share) {
	s := &m.steering
	s.failed = failed
	s.due = m.now.Add(min(steerAgainFirst<<min(s.failures, 10), steerAgainMost))
	s.failures++
}

// tickSteering: a Steer that is not answered may or may not be in force; what
// should be is asked for again.
func (m *Machine) tickSteering() {
	s := &m.steering
	if m.past(s.deadline) {
		s.deadline = time.Time{}
		m.steerAgainLater(s.asked)
		s.sure = false
	}
	if m.past(s.due) {
		s.due = time.Time{} // resteer may try again
	}
}

// steersTo tells whether new connections go to a slot, or may do so.
func (m *Machine) steersTo(s Slot) bool {
	st := &m.steering
	if inShares(st.have, s) || inShares(st.asked, s) {
		return true
	}
	for _, a := range st.out {
		if inShares(a.shares, s) {
			return true
		}
	}
	return false
}

func (m *Machine) steersToAny(g *generation) bool {
	if g.slot != noSlot && m.steersTo(g.slot) {
		return true
	}
	for _, w := range g.workers {
		if m.steersTo(w.slot) {
			return true
		}
	}
	for _, s := range g.seats {
		if s.slot != noSlot && m.steersTo(s.slot) {
			return true
		}
	}
	return false
}

// spared: the worker may stop accepting; nothing new comes to its slot, or a
// sibling takes it from there.
func (m *Machine) spared(w *worker) bool {
	if !m.steersTo(w.slot) {
		return true
	}
	if !m.steering.confirmed() {
		return false
	}
	for _, x := range w.gen.workers {
		if x != w && x.slot == w.slot && x.phase == PhaseActive && !x.leaving && !x.silent {
			return true
		}
	}
	return false
}

// settleWaiters answers those who waited for the traffic to be where it should.
func (m *Machine) settleWaiters() {
	s := &m.steering
	var later []waiter
	for _, w := range s.waiters {
		if s.confirmed() && s.seq >= w.seq {
			m.reply(w.reply)
		} else {
			later = append(later, w)
		}
	}
	s.waiters = later
}

// afterSteer gives an answer once what has just been decided is in force.
func (m *Machine) afterSteer(r Reply) {
	if r.Req != 0 {
		m.steering.waiters = append(m.steering.waiters, waiter{m.steering.seq, r})
	}
}

// watchNobody starts and stops the clock after which the master answers itself.
func (m *Machine) watchNobody() {
	m.noteWaiting()
	if m.ending() || m.somebody {
		m.nobody = time.Time{}
		return
	}
	if m.nobody.IsZero() && !m.down {
		m.nobody = m.now.Add(m.settings.UnavailableAfter)
	}
}

// serving: a live, accepting worker is, or is about to be, steered to.
func (m *Machine) serving() bool {
	for _, g := range m.generations {
		for _, w := range g.workers {
			if w.phase == PhaseActive && inShares(m.steering.asked, w.slot) {
				return true
			}
		}
	}
	return false
}

func inShares(shares []Share, s Slot) bool {
	for _, x := range shares {
		if x.Slot == s {
			return true
		}
	}
	return false
}

func sameShares(a, b []Share) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}
