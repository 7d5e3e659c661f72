package rollout

import (
	"slices"
	"time"
)

// saving is what was last asked to be made durable. Going forward waits for
// it; going back, restarting and draining never do.
type saving struct {
	seq      uint64
	newest   State // that of seq
	saved    uint64
	failures int
	due      time.Time // when a failed one is tried again
	deadline time.Time // for the newest answer
}

// save asks for the state as it is now, unless just that has been asked for
// and has not failed. It returns the number whose answer makes it durable.
func (m *Machine) save() uint64 {
	s := &m.saving
	if s.seq > 0 && s.due.IsZero() && sameState(s.newest, m.state) {
		return s.seq
	}
	s.seq++
	s.newest = cloneState(m.state)
	s.due, s.deadline = time.Time{}, m.now.Add(m.settings.SaveTimeout)
	m.emit(Save{Seq: s.seq, State: cloneState(m.state)})
	return s.seq
}

func (m *Machine) saved(seq uint64) {
	s := &m.saving
	s.saved = seq
	if seq == s.seq {
		s.failures, s.due, s.deadline = 0, time.Time{}, time.Time{}
	}
}

func (m *Machine) saveFailed(seq uint64, reason string) {
	s := &m.saving
	if seq == s.seq {
		m.saveAgainLater()
	}
	if a := m.try; a != nil && a.stage == StageSave && seq >= a.saveSeq {
		m.notSaved(a, reason)
	}
}

// notSaved: going forward ends here. But a start with nobody serving goes on: a
// full disk must not keep a service down.
func (m *Machine) notSaved(a *attempt, reason string) {
	if a.what == "start" {
		a.unsaved = true
		m.report(a, a.deadline, "the state could not be saved, it is started nevertheless: "+reason)
		return
	}
	m.fail(StageSave, nil, "the state could not be saved: "+reason)
}

func (m *Machine) saveAgainLater() {
	s := &m.saving
	s.deadline = time.Time{}
	s.due = m.now.Add(min(saveAgainFirst<<min(s.failures, 10), saveAgainMost))
	s.failures++
}

func (m *Machine) tickSaving() {
	s := &m.saving
	if m.past(s.deadline) {
		m.saveAgainLater()
	}
	if m.past(s.due) {
		m.save()
	}
}

// retain tells the store what must not go, when that has changed.
func (m *Machine) retain() {
	var ids []string
	add := func(v *Version) {
		if v != nil && v.ID != "" && !slices.Contains(ids, v.ID) {
			ids = append(ids, v.ID)
		}
	}
	for _, g := range m.generations {
		add(&g.version)
	}
	add(m.state.Baked)
	for i := range m.state.Kept {
		add(&m.state.Kept[i])
	}
	if m.try != nil {
		add(m.try.version)
	}
	if m.bake != nil {
		add(m.bake.made.back)
	}
	if !slices.Equal(ids, m.retained) {
		m.retained = ids
		m.emit(Retain{InUse: slices.Clone(ids)})
	}
}

// keep puts a baked version in front of those that rollbacks may go to.
func (m *Machine) keep(v Version) {
	kept := []Version{v}
	for _, k := range m.state.Kept {
		if k.ID != v.ID && len(kept) < m.settings.KeepVersions {
			kept = append(kept, k)
		}
	}
	m.state.Kept = kept
	m.state.Baked = &v
}

// close keeps automation from bringing back what was just taken back.
func (m *Machine) close(bad, good Version) {
	if bad.Digest == "" || bad.Digest == good.Digest || slices.Contains(m.state.Closed, bad.Digest) {
		return
	}
	closed := append(slices.Clone(m.state.Closed), bad.Digest)
	m.state.Closed = closed[max(0, len(closed)-maxClosed):]
}

func (m *Machine) reopen(digest string) {
	m.state.Closed = slices.DeleteFunc(slices.Clone(m.state.Closed), func(d string) bool { return d == digest })
}

func cloneState(s State) State {
	s.Active, s.Baked = cloneVersion(s.Active), cloneVersion(s.Baked)
	s.Kept, s.Closed = slices.Clone(s.Kept), slices.Clone(s.Closed)
	return s
}

func cloneVersion(v *Version) *Version {
	if v == nil {
		return nil
	}
	c := *v
	return &c
}

func sameState(a, b State) bool {
	same := func(a, b *Version) bool { return a == b || a != nil && b != nil && *a == *b }
	return a.NextGeneration == b.NextGeneration && same(a.Active, b.Active) && same(a.Baked, b.Baked) &&
		slices.Equal(a.Kept, b.Kept) && slices.Equal(a.Closed, b.Closed) && a.Hold == b.Hold && a.HoldBy == b.HoldBy
}
