package rollout

import (
	"slices"
	"time"
)

// Snapshot is all of a machine that another one needs to go on in its place. Its
// JSON is what a master leaves on disk: names stay, and what is added may be
// absent. Requests are not in it: who waited for an answer waits for the master.
type Snapshot struct {
	At          time.Time        `json:"at"`
	Served      bool             `json:"served,omitempty"`
	Settings    Settings         `json:"settings"`
	Token       string           `json:"token,omitempty"`
	Generations []SnapGeneration `json:"generations,omitempty"`
	Active      Generation       `json:"active,omitempty"`
	Parked      Generation       `json:"parked,omitempty"`
	Try         *SnapAttempt     `json:"try,omitempty"` // the rollout under way
	Bake        *SnapBake        `json:"bake,omitempty"`
	Verdict     *SnapVerdict     `json:"verdict,omitempty"`
	Unheard     time.Time        `json:"unheard,omitzero"` // since when nobody takes new connections
	Scale       int              `json:"scale,omitempty"`  // workers that a change of size is about; zero: none
	Slots       []SnapSlot       `json:"slots,omitempty"`  // those that are not free
	Have        []Share          `json:"have,omitempty"`   // the steering that is known to be in force
	Sure        bool             `json:"sure,omitempty"`   // and no other was asked for
	Asked       [][]Share        `json:"asked,omitempty"`  // those that may be in force instead
	State       *State           `json:"state,omitempty"`  // what is, or is about to be, saved
	Stop        *SnapStop        `json:"stop,omitempty"`
	Starts      []time.Time      `json:"starts,omitempty"` // of automatic rollouts, lately
	Ended       time.Time        `json:"ended,omitzero"`   // the last of them
	Last        *Entry           `json:"last,omitempty"`
	LastFailed  *Entry           `json:"last_failed,omitempty"`
	LastCut     *Entry           `json:"last_cut,omitempty"`
	NextWorker  Worker           `json:"next_worker"`
	NextRollout Rollout          `json:"next_rollout"`
}

// SnapGeneration is one generation.
type SnapGeneration struct {
	ID       Generation   `json:"id"`
	Version  Version      `json:"version"`
	Settings Settings     `json:"settings"`
	Token    string       `json:"token,omitempty"`
	Made     SnapAttempt  `json:"made"`
	Phase    Phase        `json:"phase"`
	Since    time.Time    `json:"since"`
	Deadline time.Time    `json:"deadline,omitzero"`
	Counts   time.Time    `json:"counts,omitzero"`
	Clearing time.Time    `json:"clearing,omitzero"`
	Baked    bool         `json:"baked,omitempty"`
	Leaving  bool         `json:"leaving,omitempty"`
	Traffic  bool         `json:"traffic,omitempty"`
	Touched  bool         `json:"touched,omitempty"`
	Aside    bool         `json:"aside,omitempty"`
	Queued   bool         `json:"queued,omitempty"`
	Slot     Slot         `json:"slot"`
	Seats    []SnapSeat   `json:"seats,omitempty"`
	Workers  []SnapWorker `json:"workers,omitempty"`
	Exits    []time.Time  `json:"exits,omitempty"`
	Looped   time.Time    `json:"looped,omitzero"`
	Ended    Ending       `json:"ended,omitzero"`
	Sick     time.Time    `json:"sick,omitzero"`
}

// SnapSeat is one place in a generation.
type SnapSeat struct {
	Slot     Slot          `json:"slot"`
	Worker   Worker        `json:"worker,omitempty"`
	Last     Worker        `json:"last,omitempty"`
	Restarts int           `json:"restarts,omitempty"`
	Wait     time.Duration `json:"wait,omitempty"`
	Left     time.Time     `json:"left,omitzero"`
	Due      time.Time     `json:"due,omitzero"`
	Fresh    bool          `json:"fresh,omitempty"`
}

// SnapWorker is one worker.
type SnapWorker struct {
	ID        Worker        `json:"id"`
	Slot      Slot          `json:"slot"`
	Phase     Phase         `json:"phase"`
	Since     time.Time     `json:"since"`
	Started   time.Time     `json:"started"`
	Deadline  time.Time     `json:"deadline,omitzero"`
	ExitBy    time.Time     `json:"exit_by,omitzero"`
	Served    bool          `json:"served,omitempty"`
	Retired   bool          `json:"retired,omitempty"`
	Leaving   bool          `json:"leaving,omitempty"`
	Stuck     bool          `json:"stuck,omitempty"`
	Goes      bool          `json:"goes,omitempty"`
	Triggered bool          `json:"triggered,omitempty"`
	Every     time.Duration `json:"every,omitempty"`
	Limit     string        `json:"limit,omitempty"`
	Cause     string        `json:"cause,omitempty"`
	LastOK    time.Time     `json:"last_ok,omitzero"`
}

// SnapAttempt is one rollout.
type SnapAttempt struct {
	ID       Rollout       `json:"id"`
	What     string        `json:"what"`
	By       string        `json:"by,omitempty"`
	Origin   Origin        `json:"origin,omitempty"`
	Why      string        `json:"why,omitempty"`
	Settings Settings      `json:"settings"`
	Token    string        `json:"token,omitempty"`
	Version  *Version      `json:"version,omitempty"`
	Confirm  time.Duration `json:"confirm,omitempty"`
	From     Generation    `json:"from,omitempty"`
	Stage    Stage         `json:"stage"`
	Since    time.Time     `json:"since"`
	Deadline time.Time     `json:"deadline,omitzero"`
	Gen      Generation    `json:"gen,omitempty"`
	Began    time.Time     `json:"began,omitzero"`
	Switched time.Time     `json:"switched,omitzero"`
	Alone    bool          `json:"alone,omitempty"`
	Ends     bool          `json:"ends,omitempty"`
	Waited   time.Duration `json:"waited,omitempty"`
	Back     *Version      `json:"back,omitempty"`
	Step     int           `json:"step,omitempty"`
	Paused   string        `json:"paused,omitempty"`
	Waits    bool          `json:"waits,omitempty"`
	Settled  bool          `json:"settled,omitempty"`
}

// SnapBake is the proving of the active generation.
type SnapBake struct {
	Deadline time.Time `json:"deadline"`
	Confirm  bool      `json:"confirm,omitempty"`
	Broken   bool      `json:"broken,omitempty"`
	WentBack bool      `json:"went_back,omitempty"`
}

// SnapSlot is one slot of the pool.
type SnapSlot struct {
	Slot       Slot       `json:"slot"`
	Generation Generation `json:"generation,omitempty"`
	Vacant     bool       `json:"vacant,omitempty"`
	Quarantine bool       `json:"quarantine,omitempty"`
}

// SnapStop is the way to the end.
type SnapStop struct {
	By       string    `json:"by,omitempty"`
	Patient  bool      `json:"patient,omitempty"`
	DrainDue time.Time `json:"drain_due,omitzero"`
	Deadline time.Time `json:"deadline,omitzero"`
	Why      string    `json:"why,omitempty"`
}

// Found is what a new master has of the last one: what that left, and which of
// its workers are still there.
type Found struct {
	Snapshot Snapshot
	Alive    map[Worker]int // their process ids
}

// Snapshot copies the machine.
func (m *Machine) Snapshot() Snapshot {
	s := Snapshot{
		At: bare(m.now), Served: m.served, Unheard: bare(m.unheard), Settings: m.settings, Token: m.token,
		Have: slices.Clone(m.steering.have), Sure: m.steering.confirmed(),
		Ended: bare(m.automatic.ended), Last: cloneEntry(m.last), LastFailed: cloneEntry(m.lastFailed), LastCut: cloneEntry(m.lastCut),
		NextWorker: m.nextWorker, NextRollout: m.nextRollout,
	}
	state := cloneState(m.state)
	s.State = &state
	for _, a := range m.steering.out {
		s.Asked = append(s.Asked, slices.Clone(a.shares))
	}
	for _, t := range m.automatic.starts {
		s.Starts = append(s.Starts, bare(t))
	}
	for _, g := range m.generations {
		s.Generations = append(s.Generations, g.snapshot())
	}
	if m.active != nil {
		s.Active = m.active.id
	}
	if m.parked != nil {
		s.Parked = m.parked.id
	}
	if m.try != nil {
		a := m.try.snapshot()
		s.Try = &a
	}
	if b := m.bake; b != nil {
		s.Bake = &SnapBake{Deadline: bare(b.deadline), Confirm: b.confirm, Broken: b.broken, WentBack: b.wentBack}
	}
	s.Verdict = m.verdict.snapshot()
	if m.scale != nil {
		s.Scale = m.scale.to
	}
	for i, x := range m.slots {
		if x.state != slotFree {
			s.Slots = append(s.Slots, SnapSlot{Slot(i), x.generation, x.vacant, x.state == slotQuarantine})
		}
	}
	if p := m.stop; p != nil {
		s.Stop = &SnapStop{By: p.by, Patient: p.patient, DrainDue: bare(p.drainDue), Deadline: bare(p.deadline), Why: p.why}
	}
	return s
}

// bare is a time that means the same in another process.
func bare(t time.Time) time.Time { return t.Round(0) }

func (g *generation) snapshot() SnapGeneration {
	s := SnapGeneration{
		ID: g.id, Version: g.version, Settings: g.settings, Token: g.token, Made: g.made.snapshot(), Phase: g.phase, Since: bare(g.since),
		Deadline: bare(g.deadline), Counts: bare(g.counts), Clearing: bare(g.clearing), Baked: g.baked, Leaving: g.leaving, Traffic: g.traffic, Touched: g.touched, Aside: g.aside, Queued: g.queued, Slot: g.slot,
		Looped: bare(g.looped), Ended: g.ended, Sick: bare(g.sick),
	}
	for _, x := range g.seats {
		seat := SnapSeat{Slot: x.slot, Last: x.last, Restarts: x.restarts, Wait: x.wait, Left: bare(x.left), Due: bare(x.due), Fresh: x.fresh}
		if x.worker != nil {
			seat.Worker = x.worker.id
		}
		s.Seats = append(s.Seats, seat)
	}
	for _, w := range g.workers {
		s.Workers = append(s.Workers, SnapWorker{
			ID: w.id, Slot: w.slot, Phase: w.phase, Since: bare(w.since), Started: bare(w.started), Deadline: bare(w.deadline), ExitBy: bare(w.exitBy),
			Served: w.served, Retired: w.retired, Leaving: w.leaving, Stuck: w.stuck, Goes: w.goes, Triggered: w.triggered, Every: w.every, Limit: w.limit, Cause: w.cause, LastOK: bare(w.lastOK),
		})
	}
	for _, t := range g.exits {
		s.Exits = append(s.Exits, bare(t))
	}
	return s
}

func (a *attempt) snapshot() SnapAttempt {
	s := SnapAttempt{
		ID: a.id, What: a.what, By: a.by, Origin: a.origin, Why: a.why, Settings: a.settings, Token: a.token, Version: cloneVersion(a.version),
		Confirm: a.confirm, From: a.from, Stage: a.stage, Since: bare(a.since), Deadline: bare(a.deadline),
		Began: bare(a.began), Switched: bare(a.switched),
		Alone: a.alone, Ends: a.ends, Waited: a.waited, Back: cloneVersion(a.back),
		Step: a.canary.step, Paused: a.canary.paused, Waits: a.canary.waits, Settled: a.canary.settled,
	}
	if a.gen != nil {
		s.Gen = a.gen.id
	}
	return s
}

func (s SnapAttempt) attempt() *attempt {
	return &attempt{
		id: s.ID, what: s.What, by: s.By, origin: s.Origin, why: s.Why, settings: s.Settings, token: s.Token, version: cloneVersion(s.Version),
		until: UntilBaked, confirm: s.Confirm, from: s.From, stage: s.Stage, since: s.Since, deadline: s.Deadline, first: s.Deadline,
		began: s.Began, switched: s.Switched,
		alone: s.Alone, ends: s.Ends, waited: s.Waited, back: cloneVersion(s.Back),
		canary: canary{step: s.Step, paused: s.Paused, waits: s.Waits, settled: s.Settled},
	}
}

// restore makes the machine what the other one was.
func (m *Machine) restore(s Snapshot) {
	m.served, m.settings, m.token = s.Served, s.Settings.whole(), s.Token
	m.automatic.starts, m.automatic.ended = s.Starts, s.Ended
	m.last, m.lastFailed, m.lastCut = s.Last, s.LastFailed, s.LastCut
	m.nextWorker, m.nextRollout = max(m.nextWorker, s.NextWorker), s.NextRollout
	m.steering.have, m.steering.asked, m.steering.known = s.Have, s.Have, len(s.Have) > 0
	for _, shares := range s.Asked { // the answer to the next one ends them
		m.steering.seq++
		m.steering.out = append(m.steering.out, ask{seq: m.steering.seq, shares: shares})
	}
	m.somebody, m.unheard = true, s.Unheard // until resteer has looked
	for _, x := range s.Slots {
		m.grow(int(x.Slot) + 1)
		m.slots[x.Slot] = slot{state: slotManned, generation: x.Generation, vacant: x.Vacant, used: true}
		if x.Quarantine {
			m.slots[x.Slot].state = slotQuarantine
		}
	}
	for _, sg := range s.Generations {
		g := m.restoreGeneration(sg)
		switch g.id {
		case s.Active:
			m.active = g
		case s.Parked:
			m.parked = g
		}
	}
	if t := s.Try; t != nil {
		m.try = t.attempt()
		for _, g := range m.generations {
			if t.Gen == g.id {
				m.try = g.made
			}
		}
	}
	if b := s.Bake; b != nil {
		m.bake = &bake{made: m.active.made, gen: m.active, deadline: b.Deadline, first: b.Deadline, confirm: b.Confirm, broken: b.Broken, wentBack: b.WentBack}
	}
	m.verdict = s.Verdict.verdict()
	if p := s.Stop; p != nil {
		m.stop = &stop{by: p.By, patient: p.Patient, drainDue: p.DrainDue, deadline: p.Deadline, why: p.Why}
	}
}

func (m *Machine) restoreGeneration(s SnapGeneration) *generation {
	g := &generation{
		id: s.ID, version: s.Version, settings: s.Settings, token: s.Token, made: s.Made.attempt(), phase: s.Phase, since: s.Since,
		deadline: s.Deadline, first: s.Deadline, counts: s.Counts, clearing: s.Clearing, baked: s.Baked, leaving: s.Leaving, traffic: s.Traffic, touched: s.Touched,
		aside: s.Aside, queued: s.Queued,
		slot: s.Slot, exits: s.Exits, looped: s.Looped, ended: s.Ended, sick: s.Sick,
	}
	g.made.gen = g
	m.generations = append(m.generations, g)
	for _, x := range s.Workers {
		w := &worker{
			id: x.ID, gen: g, slot: x.Slot, phase: x.Phase, since: x.Since, started: x.Started, deadline: x.Deadline, first: x.Deadline,
			exitBy: x.ExitBy, served: x.Served, retired: x.Retired, leaving: x.Leaving, stuck: x.Stuck, goes: x.Goes, silent: x.Goes || x.Triggered, triggered: x.Triggered, every: x.Every, limit: x.Limit, cause: x.Cause, lastOK: x.LastOK,
		}
		g.workers = append(g.workers, w)
		m.workers[w.id] = w
	}
	for _, x := range s.Seats {
		seat := &seat{slot: x.Slot, last: x.Last, restarts: x.Restarts, wait: x.Wait, left: x.Left, due: x.Due}
		if w := m.workers[x.Worker]; w != nil {
			seat.worker, w.seat = w, seat
		}
		g.seats = append(g.seats, seat)
	}
	return g
}
