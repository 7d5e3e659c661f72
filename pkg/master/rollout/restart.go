package rollout

import "time"

// replace puts the next worker on a seat that has lost one: of the same pinned
// version, after a wait that grows while it does not help.
func (m *Machine) replace(g *generation, s *seat) {
	set := g.settings
	calm := s.left.IsZero() || m.now.Sub(s.left) >= set.LoopWindow
	s.left = m.now
	if calm {
		s.wait = set.RestartInitial
		if !g.alive() {
			s.due = m.now // the last one, for the first time: nobody is helped by waiting
			return
		}
	} else {
		s.wait = min(max(2*s.wait, set.RestartInitial), set.RestartMax)
	}
	s.due = m.now.Add(m.jitter(s.wait))
}

// manDue starts the replacements whose time has come.
func (m *Machine) manDue() {
	if m.ending() {
		return
	}
	for _, g := range m.generations {
		for _, s := range g.seats {
			if m.past(s.due) {
				m.man(g, s)
			}
		}
	}
}

// tellCrashes writes down who died and what it cost, after the traffic has been
// seen to.
func (m *Machine) tellCrashes() {
	for _, e := range m.crashes {
		m.record(e)
	}
	m.crashes = nil
}

// jitter spreads a wait by a fifth to both sides.
func (m *Machine) jitter(d time.Duration) time.Duration {
	return d*4/5 + time.Duration(m.options.Rand.Int64N(int64(d)*2/5+1))
}

// refill mans every empty seat of the active generation at once: it has got the
// traffic back after its workers had begun to go.
func (m *Machine) refill(g *generation) {
	for _, s := range append([]*seat(nil), g.seats...) {
		if s.worker == nil && s.due.IsZero() {
			m.man(g, s)
		}
	}
}

// countExit notices a crash loop and goes back to the newest kept version that
// is another one, if there is one. That one has to pass its checks like any
// candidate; until it has, and when it does not, the looping one is restarted
// on and on.
func (m *Machine) countExit(g *generation, w *worker, how string) {
	set := g.settings
	g.exits, g.ended = append(g.exits, m.now), Ending{Worker: w.id, How: how}
	for m.now.Sub(g.exits[0]) > set.LoopWindow || len(g.exits) > max(set.Loop, maxExits) {
		g.exits = g.exits[1:]
	}
	n := 0
	for _, t := range g.exits {
		if t.After(g.looped) {
			n++
		}
	}
	if n < set.Loop {
		return
	}
	g.looped = m.now
	if m.try != nil || m.stop != nil || m.parked.alive() || !m.automaticNow() {
		return
	}
	to := m.newestKept(g.version)
	if to == nil {
		return
	}
	m.begin(&attempt{
		what: "loop", by: "masterd", origin: Internal, settings: m.settings, version: to,
		why: sentence(g.called() + " lost " + number(n, "worker") + " within " + set.LoopWindow.String()),
	})
}

// newestKept is the version to go back to by default.
func (m *Machine) newestKept(not Version) *Version {
	for _, v := range m.state.Kept {
		if v.ID != not.ID {
			return &v
		}
	}
	return nil
}
