package rollout

import "time"

// stop is the way to the end: it may be announced for a while, workers finish
// what is open, then they are stopped, then killed, then the master exits.
// While it is announced the active generation is served, restarted and judged as
// ever, and no rollout begins;
// from the drain on nothing is restarted, and nobody is steered to: workers that
// drain take nothing more, so the master answers who still comes.
type stop struct {
	by       string
	requests []Request
	patient  bool
	drainDue time.Time // until then it is only announced; zero: workers drain
	deadline time.Time // zero: none, or passed
	why      string
}

// ending: a stop is more than announced.
func (m *Machine) ending() bool { return m.stop != nil && m.stop.drainDue.IsZero() }

func (m *Machine) stopAsked(ev StopAsked) {
	if s := m.stop; s != nil {
		s.requests = append(s.requests, ev.Req)
		if s.drainDue.IsZero() || ev.Now {
			m.stopNow("a second stop was asked for")
		} else {
			s.patient = s.patient && ev.Patient
			m.stopDrain()
		}
		return
	}
	m.note("stop", ev.By, ev.Why)
	announced := ev.Announce > 0 && !ev.Now && m.active != nil // else nobody is there to hear of it
	m.clearForStop(who(ev.By, Person), announced)
	m.stop = &stop{by: ev.By, requests: []Request{ev.Req}, patient: ev.Patient, why: "masterd stops"}
	switch {
	case ev.Now:
		m.stopNow("masterd stops now")
	case announced:
		m.stop.drainDue = m.now.Add(ev.Announce)
		m.announce()
	default:
		m.announce()
		m.stopDrain()
	}
}

// announce tells everybody whom a readiness check may still reach, draining ones
// by a kept connection.
func (m *Machine) announce() {
	for _, g := range m.generations {
		for _, w := range g.workers {
			if w.accepts() || w.phase == PhaseDraining {
				m.emit(Announce{Worker: w.id})
			}
		}
	}
}

// clearForStop answers everybody who waits for something that will not come.
func (m *Machine) clearForStop(by string, announced bool) {
	because := "masterd is stopping, as " + by + " asked"
	if m.try != nil {
		m.try.unwanted = true
	}
	if a := m.try; a != nil && announced {
		m.giveBack(Failed, a.stage, nil, a.called()+" was given up at stage "+string(a.stage)+": "+because, false)
	} else if a != nil {
		m.try = nil
		if a.gen != nil {
			m.dismiss(a.gen)
		}
		m.conclude(a, Failed, a.stage, nil, a.called()+" was given up at stage "+string(a.stage)+": "+because)
	}
	// An announced stop lets the bake stand: until the drain a death still gives
	// the traffic back to the generation before.
	if !announced {
		m.endBake(by)
	}
	if m.scale != nil {
		m.endScale(Failed, nil, because)
	}
	m.endDelayed(Failed, because)
	for _, w := range m.steering.waiters {
		w.reply.Code, w.reply.Reason = Failed, sentence("it was under way and not confirmed: "+because)
		m.reply(w.reply)
	}
	m.steering.waiters = nil
	m.boot.due, m.automatic.due, m.nobody = time.Time{}, time.Time{}, time.Time{}
}

// endBake: whatever it would have shown, the service ends.
func (m *Machine) endBake(by string) {
	m.tellVerdict("; masterd is stopping, as " + by + " asked")
	if b := m.bake; b != nil {
		m.bake = nil
		m.conclude(b.made, Superseded, b.made.stage, nil, b.gen.called()+" was serving and not yet baked: masterd is stopping, as "+by+" asked")
	}
}

// restNow: nobody gets new connections, and nobody is started any more.
func (m *Machine) restNow() {
	m.nobody = time.Time{}
	m.resteer()
	for _, g := range m.generations {
		for _, s := range g.seats {
			s.due = time.Time{}
		}
	}
}

// stopDrain: from here on workers finish what they have.
func (m *Machine) stopDrain() {
	s := m.stop
	s.drainDue = time.Time{}
	m.endBake(who(s.by, Person))
	m.restNow()
	for _, g := range m.generations {
		for _, w := range g.workers {
			if !w.accepts() && w.phase != PhaseDraining && w.phase != PhaseStopping {
				m.kill(w, "masterd stops and it never served")
			}
		}
	}
	timeout := m.settings.StopTimeout
	if s.patient {
		timeout = 0
	} else {
		s.deadline = m.now.Add(timeout)
	}
	for _, g := range m.generations {
		for _, w := range append([]*worker(nil), g.workers...) {
			if w.accepts() {
				m.drainFor(w, timeout, "stop_timeout")
			}
		}
	}
}

func (m *Machine) stopNow(why string) {
	m.stop.drainDue, m.stop.deadline = time.Time{}, time.Time{}
	m.endBake(who(m.stop.by, Person))
	m.restNow()
	for _, g := range m.generations {
		for _, w := range g.workers {
			m.kill(w, why)
		}
	}
}

func (m *Machine) tickStop() {
	s := m.stop
	if s == nil {
		return
	}
	if m.past(s.drainDue) {
		m.stopDrain()
	}
	if m.past(s.deadline) {
		s.deadline = time.Time{}
		for _, g := range m.generations {
			for _, w := range g.workers {
				m.terminate(w, "it did not finish within stop_timeout ("+m.settings.StopTimeout.String()+")")
			}
		}
	}
}

// finishStop: once everybody is gone, or cannot be killed, the master may end.
func (m *Machine) finishStop() {
	s := m.stop
	if !m.ending() || m.exited {
		return
	}
	for _, w := range m.workers {
		if !w.stuck {
			return
		}
	}
	m.exited = true
	code, reason := Done, "masterd has stopped"
	if n := len(m.workers); n > 0 {
		code, reason = Failed, "masterd has stopped, but "+number(n, "worker")+" could not be killed"
	}
	for _, r := range s.requests {
		m.reply(Reply{Req: r, Code: code, Reason: sentence(reason)})
	}
	m.emit(Exit{Code: code})
}
