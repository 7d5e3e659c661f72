package operator

import (
	"strconv"
	"time"

	"go.uber.org/zap"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/pkg/master/generations"
	"github.com/masterd/masterd/pkg/master/rollout"
)

const (
	// callerBuffer is how many events wait for one caller. One that does not
	// read loses stages, never the outcome.
	callerBuffer = 256
	// lastLines of a worker explain a failure.
	lastLines = 50
	// keptLines are those that they are taken of: many may be of checks.
	keptLines = 1000
	// lastLinesWait bounds the wait for them: the worker may have left its
	// output to somebody else.
	lastLinesWait = time.Second
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
func (b *Backend) request(ev func(rollout.Request) rollout.Event) <-chan api.Event {
	c := &caller{events: make(chan api.Event, callerBuffer), since: time.Now()}
	b.Loop.PostOr(func() {
		b.lastRequest++
		c.after = b.Generations.LastRollout()
		b.callers[b.lastRequest] = c
		b.Master.Step(ev(b.lastRequest))
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

// Report tells callers and the log at which stage a rollout is.
func (b *Backend) Report(r rollout.Report) {
	b.Log.Info("rollout", zap.String("stage", string(r.Stage)), given("detail", r.Detail),
		zap.Uint64("generation", uint64(r.Generation)),
		given("version", r.Version.Label), zap.Uint64("rollout_id", uint64(r.Rollout)),
		zap.String("trace_id", b.Generations.Trace(r.Rollout)))
	b.Counters.Entered(uint64(r.Rollout), string(r.Stage), time.Now())
	if r.Stage == rollout.StageServing {
		b.recordSwitch(r)
	}
	ev := api.Event{Stage: &api.Stage{
		At: time.Now(), Rollout: uint64(r.Rollout), Generation: uint64(r.Generation), Version: r.Version.Label,
		Stage: string(r.Stage), Detail: r.Detail, Deadline: r.Deadline,
	}}
	for _, c := range b.callers {
		if c.rollout == 0 && r.Rollout > c.after {
			c.rollout = r.Rollout
		}
		if c.rollout == r.Rollout && len(c.events) < cap(c.events)-1 {
			c.events <- ev
		}
	}
}

// Reply answers a request. The last lines of the worker that explains it may
// still be on their way: they are waited for beside the loop.
func (b *Backend) Reply(r rollout.Reply) {
	c := b.callers[r.Req]
	delete(b.callers, r.Req)
	b.Generations.Answered(token(r.Req))
	if c == nil {
		return
	}
	o := &api.Outcome{
		Result: generations.Result(r.Code), Rollout: uint64(r.Rollout), Generation: uint64(r.Generation),
		Version: r.Version.Label,
		Stage:   string(r.Stage), Reason: r.Reason, Worker: uint64(r.Worker), ElapsedMS: time.Since(c.since).Milliseconds(),
	}
	if r.Code == rollout.Done {
		o.RollbackTarget = b.target(r.Target, b.Master.Machine)
	}
	finished, besides := b.Workers.Finished(r.Worker), b.besides(r)
	var checks []string
	if g := b.Generations.Get(r.Generation); g != nil {
		checks = ofChecks(g.Config.Health.HTTP)
	}
	b.Loop.Go(func() {
		if r.Worker != 0 {
			if finished != nil {
				wait := time.NewTimer(lastLinesWait)
				defer wait.Stop()
				select {
				case <-finished:
				case <-wait.C:
				}
			}
			o.LastLines = foldChecks(b.Output.Lines(uint64(r.Worker), keptLines), lastLines, checks)
			if besides {
				o.Reason += lockAdvice(o.LastLines)
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

// AnswerLast ends the wait of callers that nobody has answered. Where another masterd
// takes over (stopped is false), what they asked for goes on: their streams end without an
// outcome, as they would had this one been killed.
func (b *Backend) AnswerLast(stopped bool) {
	for id, c := range b.callers {
		delete(b.callers, id)
		if stopped {
			// Report leaves room for it.
			c.events <- api.Event{Outcome: &api.Outcome{Result: api.ResultFailed, Reason: masterEnds}}
		}
		close(c.events)
	}
}
