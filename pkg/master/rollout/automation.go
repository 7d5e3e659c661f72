package rollout

import (
	"slices"
	"time"
)

// automatic holds back what no person asked for. People are never made to wait.
type automatic struct {
	starts  []time.Time // within the last minute, oldest first
	ended   time.Time   // the last one
	delayed *ReloadAsked
	due     time.Time // when the delayed one is looked at again
}

func (a *automatic) begun(now time.Time) {
	a.forget(now)
	a.starts = append(a.starts, now)
}

func (a *automatic) forget(now time.Time) {
	for len(a.starts) > 0 && now.Sub(a.starts[0]) >= time.Minute {
		a.starts = a.starts[1:]
	}
}

// allowed is when the next automatic rollout may start, and by which key not before.
func (a *automatic) allowed(now time.Time, s Settings) (at time.Time, key string) {
	a.forget(now)
	at = now
	if !a.ended.IsZero() && a.ended.Add(s.Cooldown).After(at) {
		at, key = a.ended.Add(s.Cooldown), "cooldown"
	}
	if n := len(a.starts); n >= s.MaxPerMinute {
		if free := a.starts[n-s.MaxPerMinute].Add(time.Minute); free.After(at) {
			at, key = free, "max_per_minute"
		}
	}
	return at, key
}

func (m *Machine) automaticNow() bool {
	at, _ := m.automatic.allowed(m.now, m.settings)
	return !at.After(m.now)
}

// delay remembers the newest automatic request until its time comes.
func (m *Machine) delay(ev ReloadAsked) {
	m.endDelayed(Superseded, "a newer automatic reload took the place of this one while it was held back")
	m.automatic.delayed = &ev
}

// endDelayed answers what is held back: it will not start.
func (m *Machine) endDelayed(code Code, why string) {
	if d := m.automatic.delayed; d != nil {
		m.automatic.delayed = nil
		m.refuse(d.Req, code, why)
	}
}

// startDelayed starts what was held back, once nothing speaks against it.
func (m *Machine) startDelayed() {
	a := &m.automatic
	if a.delayed == nil {
		return
	}
	if !m.mayStartAutomatic() {
		a.due = time.Time{} // whatever it waits for comes as an event
		return
	}
	if at, _ := a.allowed(m.now, m.settings); at.After(m.now) {
		a.due = at
		return
	}
	ev := *a.delayed
	a.delayed, a.due = nil, time.Time{}
	if m.closed(ev.Digest) {
		m.refuseClosed(ev.Req)
		return
	}
	m.reloadNow(ev)
}

// mayStartAutomatic: nothing is under way that an automatic reload must not
// disturb. It may take the place of another automatic reload, a person's
// rollout it never does.
func (m *Machine) mayStartAutomatic() bool {
	if b := m.bake; b != nil && (b.confirm || b.made.req != 0 && !b.made.automatic()) {
		return false // a person decides, or waits for the end of this bake
	}
	a := m.try
	return a == nil || a.origin == Watch && !m.moved(a) && !m.makesWay()
}

// reloadAsked is the gate of all reloads.
func (m *Machine) reloadAsked(ev ReloadAsked) {
	ev.Settings = ev.Settings.whole()
	auto := ev.Origin == Watch || ev.Origin == Internal
	switch {
	case m.state.Hold != "":
		m.refuse(ev.Req, Held, "reloads are held by "+who(m.state.HoldBy, Person)+because(m.state.Hold)+"; `masterd unhold` allows them again")
	case auto && m.closed(ev.Digest):
		m.refuseClosed(ev.Req)
	case auto:
		m.delay(ev) // looked at in this same step
	case m.moved(m.try) && !ev.Replace:
		m.refuse(ev.Req, Superseded, m.try.called()+" of "+who(m.try.by, m.try.origin)+" is moving the traffic (stage "+
			string(m.try.stage)+"); wait for it, or use --replace to take it back first")
	case m.bake != nil && m.bake.confirm && !ev.Replace:
		m.refuse(ev.Req, Superseded, m.bake.gen.called()+" waits to be promoted; `masterd promote` or `masterd rollback` first, or use --replace")
	default:
		m.reloadNow(ev)
	}
}

func (m *Machine) closed(digest string) bool {
	return digest != "" && slices.Contains(m.state.Closed, digest)
}

func (m *Machine) refuseClosed(r Request) {
	m.refuse(r, Held, "this program was rolled back before and is closed to automatic reloads; `masterd reload` by a person may try it again")
}

func (m *Machine) reloadNow(ev ReloadAsked) {
	replaces := ""
	if a := m.try; a != nil {
		replaces = a.named() + " was given up for it at stage " + string(a.stage)
		m.supersede(ev.By, ev.Origin, ev.Why, "a newer reload")
	}
	if b := m.bake; b != nil && b.confirm && ev.Replace && m.parked.alive() {
		replaces = b.made.named() + " was taken back for it, it waited for a promote"
		m.takeBack(b.made.stage, 0, "a newer reload that "+who(ev.By, ev.Origin)+" asked for replaces it"+because(ev.Why))
	}
	m.begin(&attempt{
		what: "reload", by: ev.By, origin: ev.Origin, why: ev.Why, settings: ev.Settings, token: ev.Token,
		until: ev.Until, confirm: ev.Confirm, req: ev.Req, replaces: replaces,
	})
}

func (m *Machine) holdAsked(ev HoldAsked) {
	m.state.Hold, m.state.HoldBy = ev.Why, ev.By
	if ev.Why == "" {
		m.state.Hold = "no reason given"
	}
	m.save() // not waited for: it holds from now on
	m.note("hold", ev.By, ev.Why)
	m.done(ev.Req, "reloads are refused from now on; `masterd unhold` allows them again")
	m.endDelayed(Held, "reloads are held by "+who(ev.By, Person)+because(ev.Why))
}

func (m *Machine) unholdAsked(ev UnholdAsked) {
	if m.state.Hold == "" {
		m.refuse(ev.Req, Invalid, "reloads are not held")
		return
	}
	m.state.Hold, m.state.HoldBy = "", ""
	m.save() // not waited for
	m.note("unhold", ev.By, ev.Why)
	m.done(ev.Req, "reloads are allowed again")
}
