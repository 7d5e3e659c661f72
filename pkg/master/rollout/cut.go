package rollout

import (
	"strconv"
	"strings"
	"time"
)

// Cut is what a worker took with it: connections that were open and requests
// that ran when it was made to end, or ended by itself. The zero value: nothing.
type Cut struct {
	Connections uint64 // idle ones too
	Requests    uint64
	Longest     time.Duration // for how long the one that had run longest had run
	Median      time.Duration // half of them had run for so long at least; zero: not known
	LastBeat    bool          // it could not say any more: this is what its last beat said
	Unknown     bool          // it cannot say at all (a worker without the SDK)
}

// blame keeps the first reason for which a worker was made to end: those that
// follow from it say less.
func (w *worker) blame(why string) {
	if w.cause == "" {
		w.cause = why
	}
}

// crash is the entry of a worker that died while it served.
func (w *worker) crash(how string) Entry {
	e := Entry{What: "crash", Origin: Internal, From: w.gen.id, To: w.gen.id, Version: w.gen.version,
		Code: Failed, Stage: StageServing, Worker: w.id}
	reason := w.called() + " " + how
	if !w.cut.Unknown && w.cut != (Cut{}) {
		e.Cut = w.cut
		reason += "; " + w.cut.called()
	}
	e.Reason = sentence(reason)
	return e
}

// tellCut writes down what a worker that is not missed took with it. Of one without
// the SDK nothing is known; that it had to be stopped says enough.
func (m *Machine) tellCut(w *worker, how string) {
	stopped := w.phase == PhaseStopping || w.phase == PhaseKilled
	if w.cut == (Cut{}) || w.cut.Unknown && !(w.served && stopped) {
		return
	}
	m.crashes = append(m.crashes, Entry{What: "cut", Origin: Internal, From: w.gen.id, To: w.gen.id, Version: w.gen.version,
		Code: Failed, Worker: w.id, Cut: w.cut, Reason: sentence(w.ended(how) + "; " + w.cut.called())})
}

// ended says of a worker why it is gone.
func (w *worker) ended(how string) string {
	cause := w.cause
	switch {
	case cause != "":
	case w.phase == PhaseDraining && !w.cut.LastBeat:
		// Its own deadline is not before ours.
		cause = "it ended its drain early, as a signal or its program told it"
	default:
		cause = "it " + how
	}
	if rest, ok := strings.CutPrefix(cause, "it "); ok {
		return w.called() + " " + rest
	}
	return w.called() + " was stopped, as " + cause
}

// called says what was cut.
func (c Cut) called() string {
	if c.Unknown {
		return "what it had open is not known, as it does not speak the control protocol"
	}
	what := count(c.Connections, "connection")
	if c.Requests > 0 {
		what += " and " + count(c.Requests, "request")
	}
	if c.Connections+c.Requests == 1 {
		what += " was cut"
	} else {
		what += " were cut"
	}
	switch {
	case c.Requests > 1 && c.Longest > 0:
		what += ", the longest after " + span(c.Longest)
	case c.Requests == 1 && c.Longest > 0:
		what += ", the request after " + span(c.Longest)
	}
	if c.LastBeat {
		what += " (as of its last beat)"
	}
	return what
}

func count(n uint64, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return strconv.FormatUint(n, 10) + " " + noun + "s"
}
