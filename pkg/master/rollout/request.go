package rollout

// open notes that somebody waits for exactly one answer.
func (m *Machine) open(r Request) {
	if r == 0 {
		return
	}
	if _, twice := m.requests[r]; twice {
		m.violate("request %d was asked twice", r)
	}
	m.requests[r] = struct{}{}
}

// reply gives a request its one answer.
func (m *Machine) reply(r Reply) {
	if r.Req == 0 {
		return
	}
	if _, ok := m.requests[r.Req]; !ok {
		m.violate("request %d is answered, but nobody waits for it", r.Req)
		return
	}
	delete(m.requests, r.Req)
	m.emit(r)
}

// refuse answers a request that changes nothing.
func (m *Machine) refuse(r Request, c Code, why string) {
	m.reply(Reply{Req: r, Code: c, Reason: sentence(why)})
}

// done answers a request that needed no rollout.
func (m *Machine) done(r Request, why string) {
	reply := Reply{Req: r, Code: Done, Reason: sentence(why)}
	if m.active != nil {
		reply.Generation, reply.Version = m.active.id, m.active.version
	}
	m.reply(reply)
}

func requestOf(ev Event) (Request, bool) {
	switch ev := ev.(type) {
	case ReloadAsked:
		return ev.Req, true
	case RollbackAsked:
		return ev.Req, true
	case PromoteAsked:
		return ev.Req, true
	case PauseAsked:
		return ev.Req, true
	case ResumeAsked:
		return ev.Req, true
	case AbortAsked:
		return ev.Req, true
	case HoldAsked:
		return ev.Req, true
	case UnholdAsked:
		return ev.Req, true
	case ScaleAsked:
		return ev.Req, true
	case StopAsked:
		return ev.Req, true
	}
	return 0, false
}

// refuseOutOfTime takes in every request and answers those that come before
// the start or after the end. It tells whether the event is dealt with.
func (m *Machine) refuseOutOfTime(ev Event) bool {
	r, asked := requestOf(ev)
	if asked {
		m.open(r)
	}
	_, boot := ev.(Booted)
	_, stop := ev.(StopAsked)
	switch {
	case m.exited:
		m.refuse(r, Invalid, "masterd has stopped")
		return true
	case !m.booted && !boot:
		m.refuse(r, Invalid, "masterd has not started yet")
		return true
	case asked && !stop && m.stop != nil:
		m.refuse(r, Invalid, "masterd is stopping, as "+who(m.stop.by, Person)+" asked")
		return true
	}
	return false
}

// record appends to the history and keeps what status shows of it.
func (m *Machine) record(e Entry) {
	e.At = m.now
	if e.Rollout != 0 {
		m.last = &e
	}
	if e.Cut != (Cut{}) {
		m.lastCut = &e
	}
	m.emit(Record{Entry: e})
}

// note records a request that is not a rollout.
func (m *Machine) note(what, by, why string) { m.noteOf(m.active, what, by, why) }

// noteOf records one that is about a generation, nil: about none.
func (m *Machine) noteOf(g *generation, what, by, why string) {
	e := Entry{What: what, By: by, Origin: Person, Why: why, Code: Done}
	if g != nil {
		e.To, e.Version = g.id, g.version
	}
	if m.active != nil {
		e.From = m.active.id
	}
	m.record(e)
}
