package rollout

import "time"

// wait is what is known of why a worker that was started is not fit yet, while it starts and
// while it is checked.
type wait struct {
	what   string    // it is waited for, for people
	tell   time.Time // when whoever watches the rollout is told so; zero: they were, or nobody need be
	vain   string    // what shows that it will never be fit; empty: nothing
	since  time.Time // when that was first seen
	seen   int       // and how many times in a row
	giveUp time.Time // while it starts: when it is not waited for any longer; zero: until its deadline
}

// waiting takes what a worker that is not ready is waited for. Who watches the rollout is
// told what has not come at once; a candidate that shows that it will never come is given
// up once it has shown that for long enough.
func (m *Machine) waiting(w *worker, what string, vain bool) {
	if w.wait.what != what && m.candidate(w.gen) {
		w.wait.tell = w.started.Add(tellWaiting)
	}
	w.wait.what = what
	switch {
	case !vain:
		m.hopes(w)
	case w.wait.vain == "" && m.mayGiveUp(w):
		w.wait.vain, w.wait.since, w.wait.giveUp = what, m.now, m.now.Add(w.gen.settings.GiveUp)
	case w.wait.vain != "":
		w.wait.vain = what // the same in other words
	}
	m.tickWaiting(w)
}

// hopes: nothing shows any more that the worker is waited for in vain.
func (m *Machine) hopes(w *worker) {
	w.wait.vain, w.wait.since, w.wait.seen, w.wait.giveUp = "", time.Time{}, 0, time.Time{}
}

// mayGiveUp: only what serves nobody yet is given up before its time, and nothing that has
// asked for more of it.
func (m *Machine) mayGiveUp(w *worker) bool {
	return w.gen.settings.GiveUp > 0 && m.candidate(w.gen) && !w.asked
}

// tickWaiting does what has become due while a worker starts.
func (m *Machine) tickWaiting(w *worker) {
	if w.phase != PhaseStarting {
		return
	}
	if m.past(w.wait.tell) {
		w.wait.tell = time.Time{}
		if a := m.try; m.candidate(w.gen) && w.wait.what != "" && a.complaint != w.wait.what {
			a.complaint = w.wait.what
			m.report(a, a.deadline, w.called()+" is not ready: "+w.wait.what)
		}
	}
	if m.past(w.wait.giveUp) {
		w.wait.giveUp = time.Time{}
		if m.mayGiveUp(w) {
			m.unfit(w, "it would never have been ready, and was given up after "+
				span(w.gen.settings.GiveUp)+" of that (health.start.give_up): "+w.wait.vain)
		}
	}
}

// refused takes the answer of a failed check. A candidate that has given nothing but one
// steady refusal for long enough is given up: more time does not change what it knows. It
// tells whether it was.
func (m *Machine) refused(w *worker, ev Probed) bool {
	refusal := ev.Refusal
	if refusal == "" || !ev.Steady {
		m.hopes(w)
		return false
	}
	if w.wait.vain != refusal {
		m.hopes(w)
		w.wait.vain, w.wait.since = refusal, m.now
	}
	w.wait.seen++
	give := w.gen.settings.GiveUp
	if w.wait.seen < giveUpAnswers || m.now.Before(w.wait.since.Add(give)) || !m.mayGiveUp(w) {
		return false
	}
	m.unfit(w, "it is ready, and has refused each health check for "+span(give)+
		", so it was given up (health.start.give_up): "+refusal)
	return true
}
