package master

import (
	"strconv"
	"time"

	"go.uber.org/zap"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/pkg/master/rollout"
)

const (
	// callerBuffer is how many events wait for one caller. One that does not
	// read loses stages, never the outcome.
	callerBuffer = 256
	// lastLines of a worker explain a failure.
	lastLines = 50
	// lastLinesWait bounds the wait for them: the worker may have left its
	// output to somebody else.
	lastLinesWait = time.Second
	// maxTraces remembered; of older rollouts nothing is logged any more.
	maxTraces = 256
)

// masterEnds is what callers are told for whom nothing more is done.
const masterEnds = "The master is ending."

// caller is a request that waits for its answer.
type caller struct {
	events  chan api.Event
	since   time.Time
	after   rollout.Rollout // only younger rollouts are its own
	rollout rollout.Rollout // its own, once known
}

// request has the loop step an event that carries a request, and returns the
// stream of its answer: stages, one outcome, closed.
func (m *Master) request(ev func(rollout.Request) rollout.Event) <-chan api.Event {
	c := &caller{events: make(chan api.Event, callerBuffer), since: time.Now()}
	m.post(func() {
		m.lastRequest++
		c.after = m.lastRollout
		m.callers[m.lastRequest] = c
		m.step(ev(m.lastRequest))
	}, func() {
		c.events <- api.Event{Outcome: &api.Outcome{Result: api.ResultInvalid, Reason: masterEnds}}
		close(c.events)
	})
	return c.events
}

// token names the plan of a request to the machine.
func token(r rollout.Request) string { return strconv.FormatUint(uint64(r), 10) }

// given is a field of the log that is left out when it is empty.
func given(key, value string) zap.Field {
	if value == "" {
		return zap.Skip()
	}
	return zap.String(key, value)
}

// report tells callers and the log at which stage a rollout is.
func (m *Master) report(r rollout.Report) {
	m.log.Info("rollout", zap.String("stage", string(r.Stage)), given("detail", r.Detail), zap.Uint64("generation", uint64(r.Generation)),
		given("version", r.Version.Label), zap.Uint64("rollout_id", uint64(r.Rollout)), zap.String("trace_id", m.trace(r.Rollout)))
	ev := api.Event{Stage: &api.Stage{
		At: time.Now(), Rollout: uint64(r.Rollout), Generation: uint64(r.Generation), Version: r.Version.Label,
		Stage: string(r.Stage), Detail: r.Detail, Deadline: r.Deadline,
	}}
	for _, c := range m.callers {
		if c.rollout == 0 && r.Rollout > c.after {
			c.rollout = r.Rollout
		}
		if c.rollout == r.Rollout && len(c.events) < cap(c.events)-1 {
			c.events <- ev
		}
	}
}

// reply answers a request. The last lines of the worker that explains it may
// still be on their way: they are waited for beside the loop.
func (m *Master) reply(r rollout.Reply) {
	c := m.callers[r.Req]
	delete(m.callers, r.Req)
	delete(m.asked, token(r.Req))
	if c == nil {
		return
	}
	o := &api.Outcome{
		Result: result(r.Code), Rollout: uint64(r.Rollout), Generation: uint64(r.Generation), Version: r.Version.Label,
		Stage: string(r.Stage), Reason: r.Reason, Worker: uint64(r.Worker), ElapsedMS: time.Since(c.since).Milliseconds(),
	}
	finished := m.finishing[r.Worker]
	if w := m.workers[r.Worker]; w != nil {
		finished = w.finished // it is about to end
	}
	m.beside(func() {
		if r.Worker != 0 {
			if finished != nil {
				wait := time.NewTimer(lastLinesWait)
				defer wait.Stop()
				select {
				case <-finished:
				case <-wait.C:
				}
			}
			for _, l := range m.output.Lines(uint64(r.Worker), lastLines) {
				o.LastLines = append(o.LastLines, l.Text)
			}
		}
		c.events <- api.Event{Outcome: o}
		close(c.events)
	})
}

// detached ends a caller's wait now: its rollout goes on.
func detached(events <-chan api.Event) <-chan api.Event {
	out := make(chan api.Event, 2)
	defer close(out)
	ev, ok := <-events
	if !ok {
		return out
	}
	out <- ev
	if st := ev.Stage; st != nil {
		out <- api.Event{Outcome: &api.Outcome{
			Result: api.ResultAccepted, Rollout: st.Rollout, Generation: st.Generation, Version: st.Version,
			Reason: "Accepted; it goes on without you. `masterd status` and `masterd history` tell how it ends.",
		}}
	}
	return out
}

// trace is the trace_id that all lines of one rollout share.
func (m *Master) trace(r rollout.Rollout) string {
	if t, ok := m.traces[r]; ok {
		return t
	}
	t := m.journal.Trace()
	m.traces[r] = t
	if r > maxTraces {
		delete(m.traces, r-maxTraces)
	}
	return t
}

// result is the word for a code in the API.
func result(c rollout.Code) string {
	switch c {
	case rollout.Done:
		return api.ResultDone
	case rollout.Failed:
		return api.ResultFailed
	case rollout.RolledBack:
		return api.ResultRolledBack
	case rollout.Held:
		return api.ResultHeld
	case rollout.Superseded:
		return api.ResultSuperseded
	}
	return api.ResultInvalid
}
