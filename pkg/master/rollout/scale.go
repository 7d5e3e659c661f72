package rollout

import (
	"strconv"
	"time"
)

// scale is a change of the active generation's number of workers under way.
// New workers pass their checks like a candidate's before they accept.
type scale struct {
	req Request
	gen *generation
	to  int
}

func (m *Machine) scaleAsked(ev ScaleAsked) {
	g := m.active
	switch {
	case ev.Processes < 1 || ev.Processes > MaxProcesses:
		m.refuse(ev.Req, Invalid, "a generation has between 1 and "+strconv.Itoa(MaxProcesses)+" workers, not "+strconv.Itoa(ev.Processes))
		return
	case m.try != nil:
		m.refuse(ev.Req, Superseded, m.try.called()+" of "+who(m.try.by, m.try.origin)+" is running (stage "+string(m.try.stage)+"); scale when it is over")
		return
	case m.scale != nil:
		m.refuse(ev.Req, Superseded, "a change to "+number(m.scale.to, "worker")+" is under way; scale again when it is done")
		return
	case m.returns():
		m.refuse(ev.Req, Superseded, g.called()+" is about to be started again; scale when it serves")
		return
	case g == nil:
		m.refuse(ev.Req, Invalid, "no generation serves yet, there is nothing to scale")
		return
	}
	if g.slot == noSlot && m.cramped(ev.Processes) {
		m.refuse(ev.Req, Failed, m.crampedBy(ev.Processes))
		return
	}
	grows := ev.Processes - len(g.seats)
	if free := m.slotsIn(slotFree); grows > free && g.slot == noSlot {
		m.refuse(ev.Req, Failed, "each worker needs a slot of its own and only "+strconv.Itoa(free)+" are free")
		return
	}
	m.scale = &scale{req: ev.Req, gen: g, to: ev.Processes}
	m.note("scale", ev.By, ev.Why)
	for range max(grows, 0) {
		s := &seat{slot: g.slot, fresh: true}
		g.seats = append(g.seats, s)
		m.man(g, s)
	}
	for i := len(g.seats) - 1; i >= ev.Processes; i-- {
		m.dismissSeat(g, g.seats[i])
	}
}

// dismissSeat gives up a place and whoever has it.
func (m *Machine) dismissSeat(g *generation, s *seat) {
	s.due = time.Time{}
	w := s.worker
	switch {
	case w == nil:
		if s.slot != g.slot {
			m.vacate(s.slot)
		}
		g.removeSeat(s)
	case w.phase == PhaseActive:
		w.retired, w.leaving = true, true
	default:
		w.retired = true
		m.kill(w, "its place was given up")
	}
}

// settleScale answers a change of size when it is done.
func (m *Machine) settleScale() {
	sc := m.scale
	if sc == nil || m.stop != nil {
		return
	}
	for _, s := range sc.gen.seats {
		if s.fresh && (s.worker == nil || s.worker.phase != PhaseActive) {
			return
		}
	}
	if !m.steering.confirmed() {
		return
	}
	for _, s := range sc.gen.seats {
		s.fresh = false
	}
	m.scale = nil
	sc.gen.settings.Processes = sc.to
	m.settings.Processes = sc.to
	m.done(sc.req, sc.gen.called()+" has "+number(sc.to, "worker")+" now")
}

// scaleFailed takes back what a change of size had begun.
func (m *Machine) scaleFailed(w *worker, why string) {
	m.endScale(Failed, w, "the change to "+number(m.scale.to, "worker")+" failed: "+blame(w, why)+
		"; "+m.scale.gen.called()+" serves on with its former workers")
}

// dropScale ends a change of size in favour of something else.
func (m *Machine) dropScale(a *attempt) {
	if m.scale == nil {
		return
	}
	why := "the generation it was meant for lost the traffic"
	if a != nil {
		why = "a " + a.noun() + " that " + who(a.by, a.origin) + " asked for took its place"
	}
	m.endScale(Superseded, nil, "the change to "+number(m.scale.to, "worker")+" was given up: "+why)
}

func (m *Machine) endScale(code Code, w *worker, why string) {
	sc := m.scale
	m.scale = nil
	for _, s := range append([]*seat(nil), sc.gen.seats...) {
		if s.fresh {
			m.dismissSeat(sc.gen, s)
		}
	}
	r := Reply{Req: sc.req, Generation: sc.gen.id, Version: sc.gen.version, Code: code, Reason: sentence(why)}
	if w != nil {
		r.Worker = w.id
	}
	m.reply(r)
}
